"""The judge of raw connections sees what must not be; `make faults` and tests/faults let it judge a real server."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz import wire
from tests.fuzz.wire_cases import Case, Message, case

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
NO = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"
RIGHT = Message(b"right", frozenset({200}))
WRONG = Message(b"wrong", frozenset(range(400, 500)), must=False, last=True)
SPOILED = Message(b"spoiled", frozenset(range(200, 500)), must=False, last=True, sure=False)
HEAD = Message(b"head", frozenset({200}), bodiless=True)


def judged(data: bytes, *messages: Message, ending: str = "wait", proper: bool = True) -> list[int]:
    return [answer.status for answer in wire.judge(Case(messages, (), 0.0, ending), data, proper)]


def test_what_may_come_back() -> None:
    assert judged(OK + CHUNKED + NO, RIGHT, RIGHT, WRONG) == [200, 200, 400]
    assert judged(OK, RIGHT, WRONG, RIGHT) == [200]
    assert judged(NO, WRONG, RIGHT) == [400]
    assert judged(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, RIGHT) == [200]
    assert judged(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + OK, HEAD, RIGHT) == [200, 200]
    assert judged(OK + OK + NO, SPOILED, RIGHT) == [200, 200, 400]
    assert judged(b"", RIGHT, ending="reset") == []
    assert judged(OK[:-1], RIGHT, ending="half") == [200]
    assert judged(OK[:-1], RIGHT, proper=False) == [200]


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b"", [RIGHT]),
        (NO, [RIGHT]),
        (OK, [WRONG]),
        (NO + OK, [WRONG, RIGHT]),
        (OK + OK, [RIGHT]),
        (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", [SPOILED]),
        (OK[:-1], [RIGHT]),
        (CHUNKED[:-2], [RIGHT]),
        (CHUNKED.replace(b"2\r\n{}", b"2\r\n{}}"), [RIGHT]),
        (CHUNKED.replace(b"2\r\n{}", b"z\r\n{}"), [RIGHT]),
        (OK.replace(b"\r\n\r\n", b"\r\nX-Injected: 1\r\n\r\n"), [RIGHT]),
        (OK.replace(b"\r\n\r\n", b"\r\nset-cookie: x=1\r\n\r\n"), [RIGHT]),
        (OK.replace(b"\r\n\r\n", b"\r\na: b\rc\r\n\r\n"), [RIGHT]),
        (OK.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\n"), [RIGHT]),
        (OK + b"garbage\r\n", [RIGHT]),
    ],
)
def test_what_must_not_come_back(data: bytes, messages: list[Message]) -> None:
    with pytest.raises(AssertionError):
        judged(data, *messages)


def test_a_connection_is_known_by_its_seed() -> None:
    assert case(Random(7), "a") == case(Random(7), "a")
    some = [case(Random(number), "a") for number in range(500)]
    assert {one.ending for one in some} == {"wait", "half", "reset"}
    assert len({(message.must, message.sure, message.last) for one in some for message in one.messages}) == 4
