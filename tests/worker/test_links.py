"""One link, without its thread: what is sent, merged, dropped, split."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from worker.links import Gone, Link
from worker.protocol import (
    MAX_FRAME,
    VERSION,
    CallDelta,
    CallStart,
    Cancel,
    Counted,
    Delta,
    Event,
    Failed,
    Finished,
    Framer,
    Hello,
    Probability,
    ProtocolError,
    Reasoning,
    Rendered,
    Request,
    Seen,
    Timings,
    Tokens,
    encode,
)  # fmt: skip

HELLO = Hello(VERSION, 5)


class Ends:
    """The link, and the proxy at its other end."""

    def __init__(self) -> None:
        self.proxy, theirs = socket.socketpair()
        self.proxy.setblocking(False)
        self.link = Link(1, theirs.detach(), 5)
        self._framer: Framer[list[Event]] = Framer(list[Event])

    def sent(self) -> list[Event]:
        """All events that the link has to send."""
        events: list[Event] = []
        done = False
        while not done:
            done = self.link.write()
            with contextlib.suppress(BlockingIOError):
                while chunk := self.proxy.recv(2**22):
                    events += [event for batch in self._framer.feed(chunk) for event in batch]
        return events

    def read(self, *requests: Request) -> list[Request]:
        self.proxy.sendall(b"".join(encode(request) for request in requests))
        return list(self.link.read())


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.link.close()
    ends.proxy.close()


def finished(id: int) -> Finished:
    return Finished(id, "eos", "", Timings())


def test_hello_comes_first(ends: Ends) -> None:
    assert ends.sent() == [HELLO]


def test_deltas_of_a_stream_merge_but_not_across_its_end_or_with_others(ends: Ends) -> None:
    for id in (1, 2):
        ends.link.open(id)
    ends.link.push([Delta(1, "a"), Delta(2, "x")])
    ends.link.push([Delta(1, "b", 2), finished(1), Delta(1, "late")])
    ends.link.push([Delta(2, "y")])
    assert ends.sent() == [HELLO, Delta(1, "ab", 3), Delta(2, "xy", 2), finished(1)]


def test_probabilities_merge_and_split_with_their_deltas(ends: Ends) -> None:
    ends.link.open(1)
    probs = [Probability(token, b"x" * 2**20, -1.0, []) for token in range(40)]
    for token, prob in enumerate(probs):
        ends.link.push([Delta(1, str(token % 10), 1, [prob])])
    deltas = [event for event in ends.sent() if isinstance(event, Delta)]
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas) == "0123456789" * 4
    assert [prob for delta in deltas for prob in delta.probs or ()] == probs
    assert sum(delta.tokens for delta in deltas) == 40


def test_reasoning_and_arguments_merge_with_their_own_kind_only(ends: Ends) -> None:
    for id in (1, 2):
        ends.link.open(id)
    ends.link.push([Reasoning(1, "a"), Reasoning(1, "b"), Delta(1, "c"), CallStart(1, 0, "i", "f"), Delta(2, "x")])
    ends.link.forget(2)
    ends.link.push([CallDelta(1, 0, "{"), CallDelta(1, 0, "}", 2), CallDelta(1, 1, "["), Delta(1, "d")])
    assert ends.sent()[1:] == [
        Reasoning(1, "ab", 2), Delta(1, "c"), CallStart(1, 0, "i", "f"), CallDelta(1, 0, "{}", 3), CallDelta(1, 1, "["),
        Delta(1, "d"),
    ]  # fmt: skip


def test_text_behind_a_call_does_not_move_before_it_when_another_request_is_forgotten(ends: Ends) -> None:
    for id in (1, 2):
        ends.link.open(id)
    ends.link.push([Delta(1, "a"), CallStart(1, 0, "i", "f"), Delta(2, "x")])
    ends.link.forget(2)
    ends.link.push([Delta(1, "b")])
    assert ends.sent()[1:] == [Delta(1, "a"), CallStart(1, 0, "i", "f"), Delta(1, "b")]


def test_nothing_is_sent_for_a_forgotten_request(ends: Ends) -> None:
    for id in (1, 2):
        ends.link.open(id)
    ends.link.push([Delta(2, "a"), Delta(1, "gone"), Delta(2, "b")])
    assert ends.link.forget(1)
    ends.link.push([Delta(1, "gone too"), Delta(2, "c"), finished(1)])
    assert ends.sent() == [HELLO, Delta(2, "abc", 3)]
    assert not ends.link.forget(1)


def test_what_outgrows_a_frame_is_split_or_refused(ends: Ends) -> None:
    for id in (1, 2):
        ends.link.open(id)
    text = "é" * MAX_FRAME
    ends.link.push([Delta(1, text, 7), Rendered(2, text)])
    events = ends.sent()
    deltas = [event for event in events if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == text
    assert sum(delta.tokens for delta in deltas) == 7
    assert isinstance(events[-1], Failed)


def test_an_id_in_use_is_a_protocol_error(ends: Ends) -> None:
    ends.link.open(1)
    with pytest.raises(ProtocolError, match="in use"):
        ends.link.open(1)
    ends.link.push([finished(1)])
    ends.link.open(1)


def test_a_proxy_must_greet_with_this_generation(ends: Ends) -> None:
    with pytest.raises(ProtocolError, match="before Hello"):
        ends.read(Cancel(1))
    with pytest.raises(ProtocolError, match="does not fit"):
        ends.read(Hello(VERSION, 4))
    assert ends.read(HELLO, Cancel(1)) == [Cancel(1)]


def test_a_closed_link_is_gone(ends: Ends) -> None:
    ends.proxy.close()
    with pytest.raises(Gone):
        list(ends.link.read())
    with pytest.raises(Gone):
        ends.link.write()


def test_the_engine_sends_at_once_what_the_socket_takes_and_leaves_the_rest(ends: Ends) -> None:
    ends.link.open(1)
    ends.link.push([Delta(1, "a")])
    assert ends.link.attempt()
    ends.link.push([Delta(1, "é" * 2**20) for _ in range(10)])
    assert not ends.link.attempt()
    ends.link.push([Delta(1, "z"), finished(1)])
    assert not ends.link.attempt()
    events = ends.sent()
    assert events[:2] == [HELLO, Delta(1, "a")]
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == "a" + "é" * 2**20 * 10 + "z"
    assert events[-1] == finished(1)


def test_the_engine_neither_waits_for_a_sender_nor_fails_for_a_proxy_that_is_gone(ends: Ends) -> None:
    with ends.link._sending:
        assert not ends.link.attempt()
    ends.proxy.close()
    assert not ends.link.attempt()
    ends.link.close()
    assert not ends.link.attempt()


def test_two_threads_that_send_keep_the_order(ends: Ends) -> None:
    ends.link.open(1)
    ended = threading.Event()

    def keep_writing() -> None:
        while not ended.is_set():
            ends.link.write()

    other = threading.Thread(target=keep_writing)
    other.start()
    received: list[Event] = []
    for number in range(3000):
        ends.link.push([Delta(1, f"{number},")])
        ends.link.attempt()
        if number % 100 == 0:
            received += _taken(ends)
    ended.set()
    other.join()
    received += _taken(ends) + ends.sent()
    text = "".join(event.text for event in received if isinstance(event, Delta))
    assert text == "".join(f"{number}," for number in range(3000))


def _taken(ends: Ends) -> list[Event]:
    """What lies in the socket."""
    events: list[Event] = []
    with contextlib.suppress(BlockingIOError):
        while chunk := ends.proxy.recv(2**22):
            events += [event for batch in ends._framer.feed(chunk) for event in batch]
    return events


@pytest.mark.parametrize(
    "last",
    [
        Finished(7, "stop", "", Timings()),
        Failed(7, "internal_error", ""),
        Tokens(7, []),
        Rendered(7, ""),
        Counted(7, 1),
        Seen(7, []),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_is_kept_of_a_request_once_it_is_answered(ends: Ends, last: Event) -> None:
    ends.link.open(7, "request")
    ends.link.push([last])
    assert ends.link.live == set()
    assert ends.sent()[-1] == last
