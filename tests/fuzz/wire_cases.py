"""What a client may send over one connection: requests that are right, wrong, cut off or spoiled, one after the other."""

# ruff: noqa: E501 - bytes as they are sent read better in one line

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

_WRONG = frozenset(range(400, 500))
_ANY = frozenset(range(200, 500)) | {501}
_LATE = _WRONG | {408}


@dataclass(frozen=True)
class Message:
    """A request, or what looks like one. `statuses`: those of its answer; `must`: there is one.

    `last`: nothing that follows it is a request. `sure`: False: nobody can say how many answers it gets.
    """

    data: bytes
    statuses: frozenset[int]
    must: bool = True
    last: bool = False
    sure: bool = True
    bodiless: bool = False  # its answer is, whatever length it tells


@dataclass(frozen=True)
class Case:
    """`cuts`: where the bytes are sent in two; `pause`: seconds at each. `ending`: the client waits for the server's
    end, says that it has no more to say, or is gone at once."""

    messages: tuple[Message, ...]
    cuts: tuple[int, ...]
    pause: float
    ending: str

    @property
    def data(self) -> bytes:
        return b"".join(message.data for message in self.messages)

    def __str__(self) -> str:
        sent = self.data
        shown = sent if len(sent) < 1500 else sent[:1000] + b" ... " + sent[-500:]
        return f"{self.ending}, cut at {self.cuts}: {shown!r}"


def case(draw: Random, model: str) -> Case:
    """Some right requests, and mostly something else behind them."""
    messages = [_right(draw, model) for _ in range(draw.choice((0, 0, 0, 1, 1, 2, 3, 8)))]
    if not messages or draw.random() < 0.85:
        messages.append(draw.choice((_wrong, _wrong, _cut_off, _spoiled, _spoiled, _right))(draw, model))
    end = messages[-1]
    if end.last and (end.sure or end.statuses == _ANY) and draw.random() < 0.5:
        messages.append(
            _right(draw, model)
        )  # behind what is wrong it is no request; behind a part it would be more of it
    size = sum(len(message.data) for message in messages)
    cuts = () if draw.random() < 0.5 else tuple(sorted({draw.randrange(size) for _ in range(draw.choice((1, 2, 9)))}))
    return Case(tuple(messages), cuts, draw.choice((0.0, 0.001, 0.01)), draw.choice(("wait", "wait", "wait", "half", "reset")))  # fmt: skip


# -- right -------------------------------------------------------------------------------------------------------------


def _targets(model: str) -> list[tuple[bytes, bytes, bytes | None, int]]:
    def body(**fields: object) -> bytes:
        return json.dumps(fields).encode()

    say = {"model": model, "prompt": "one two", "max_tokens": 2}
    return [
        (b"GET", b"/health", None, 200),
        (b"HEAD", b"/health", None, 200),
        (b"GET", b"/v1/models?a=%0d%0aX-Injected:1", None, 200),
        (b"OPTIONS", b"/v1/chat/completions", None, 200),
        (b"GET", b"/nope%0d%0aX-Injected:%201", None, 404),
        (b"GET", b"/v1/models/%2e%2e%2f%2e%2e%00", None, 404),
        (b"DELETE", b"/health", None, 405),
        (b"POST", b"/v1/completions", body(**say), 200),
        (b"POST", b"/v1/completions", body(**say, stream=True), 200),
        (b"POST", b"/tokenize", b"[]", 400),
        (b"POST", b"/v1/completions", b"", 400),
        (b"POST", b"/models/load", body(model="nobody\r\nX-Injected: 1"), 404),
        (b"POST", b"/models/load", body(model="nobody", x="y" * 70_000), 404),
    ]


def _right(draw: Random, model: str) -> Message:
    """In one of the many ways in which a request may be written."""
    method, target, body, status = draw.choice(_targets(model))
    old, lines = draw.random() < 0.05, [b"Host: localhost"]
    last = old
    if draw.random() < 0.1:
        target = b"http://localhost" + target
    if draw.random() < 0.3:
        lines += draw.choice(_DRESS)
    if draw.random() < 0.05:
        lines.append(b"Connection: close")
        last = True
    elif draw.random() < 0.1:
        lines += [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"]
    if body is not None:
        lines += [b"Expect: 100-continue"] if draw.random() < 0.1 else []
        framing, body = _framed(draw, body, old)
        lines.append(framing)
    draw.shuffle(lines)
    start = b"%b %b HTTP/1.%b" % (method, target, b"0" if old else b"1")
    front = b"\r\n" * draw.choice((0, 0, 0, 1, 3))
    data = front + b"\r\n".join([start, *map(draw.choice((bytes, bytes.lower, bytes.upper)), lines)])
    return Message(data + b"\r\n\r\n" + (body or b""), frozenset({status}), last=last, bodiless=method == b"HEAD")


_DRESS: tuple[list[bytes], ...] = (
    [b"X-Odd: \xff\xfe\x80", b"X-Tab:\t a\tb \t"],
    [b"X-Empty:", b"X-Empty: "],
    [b"X-Long: " + b"a" * 20_000],
    [b"X-%d: b" % number for number in range(300)],
    [b"Content-Type: application/x-www-form-urlencoded", b"Accept-Encoding: gzip, br"],
    [b"Accept: */*", b"Range: bytes=0-1", b"If-None-Match: *", b"TE: trailers, deflate"],
    [b"X-Forwarded-For: 1.2.3.4\t, a", b"Forwarded: for=_x", b"X-Request-Id: " + b"r" * 200],
    [b"Cookie: " + b"a=b; " * 500],
)  # fmt: skip


def _framed(draw: Random, body: bytes, old: bool) -> tuple[bytes, bytes]:
    """The header that says where the body ends, and the body as it is sent."""
    if old or draw.random() < 0.6:
        return b"Content-Length: %d" % len(body), body
    chunks = b""
    while body:
        size = draw.choice((1, 2, 100, 65_536))
        extension = draw.choice((b"", b"", b";a=b", b";" + b"a" * 500))
        chunks += b"%x%b\r\n%b\r\n" % (len(body[:size]), extension, body[:size])
        body = body[size:]
    trailers = draw.choice((b"", b"", b"A: b\r\n", b"Authorization: Bearer x\r\nX-Request-Id: t\r\nHost: evil\r\n"))
    return b"Transfer-Encoding: chunked", chunks + b"0\r\n" + trailers + b"\r\n"


# -- wrong -------------------------------------------------------------------------------------------------------------

_HEAD = b"POST /models/load HTTP/1.1\r\nHost: localhost\r\n"
_GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WRONG: tuple[bytes, ...] = (
    b"GET\r\n\r\n", b"NONSENSE\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.2\r\n\r\n", b"GET / HTP/1.1\r\n\r\n",
    b"get / HTTP/1.1\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"G\xc9T / HTTP/1.1\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n", b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
    b"GET / a HTTP/1.1\r\n\r\n", b"GET /\x7f HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\nHost: localhost\n\n", b"CONNECT localhost:80 HTTP/1.1\r\n\r\n",
    b"CONNECT / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    b"\x00" * 100, b"\x80\x2e\x01\x00\x02", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", _GET + b"X: y\r\n" * 20_000 + b"\r\n",
    _GET + b"X: " + b"a" * 70_000 + b"\r\n\r\n", _GET + b"a" * 70_000 + b": b\r\n\r\n", b"\r\n" * 200_000,
    _GET + b"No colon\r\n\r\n", _GET + b": b\r\n\r\n", _GET + b"A : b\r\n\r\n", _GET + b"A\x00: b\r\n\r\n", _GET + b"A: b\x00c\r\n\r\n",
    _GET + b"A: b\rX-Injected: 1\r\n\r\n", _GET + b"A: b\nX-Injected: 1\r\n\r\n", _GET + b"A: b\r\n folded\r\n\r\n", _GET + b"H\xc3\xa9: b\r\n\r\n",
    _GET + b"Host: evil.example\r\n\r\n", b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n", _GET + b"A: b\x7f\x01\r\n\r\n",
    _HEAD + b"Content-Length: -1\r\n\r\n{}", _HEAD + b"Content-Length: 1e3\r\n\r\n{}", _HEAD + b"Content-Length: +2\r\n\r\n{}",
    _HEAD + b"Content-Length: 0x2\r\n\r\n{}", _HEAD + b"Content-Length: 2 2\r\n\r\n{}", _HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    _HEAD + b"Content-Length: \r\n\r\n{}", _HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}]", _HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    _HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", _HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"Transfer-Encoding: xchunked\r\n\r\n{}", _HEAD + b"Transfer-Encoding: identity\r\n\r\n{}", _HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n{}",
    _HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n{}",
    _CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", _CHUNKED + b"-1\r\n{}\r\n", _CHUNKED + b"f" * 18 + b"\r\n{", _CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    _CHUNKED + b"2\r\n{}}}}}\r\n0\r\n\r\n", _CHUNKED + b"2\n{}\n0\n\n", _CHUNKED + b"\r\n", _CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    _CHUNKED + b"2;" + b"x" * 400_000 + b"\r\n{}\r\n0\r\n\r\n", _CHUNKED + b"2\r\n{}\r\n0\r\nA: b\x00\r\n\r\n", _CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n",
    _CHUNKED + b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", _CHUNKED + b"2\r\n{}\r\n0\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
)  # fmt: skip


def _wrong(draw: Random, model: str) -> Message:
    return Message(draw.choice(WRONG), _WRONG, must=False, last=True)


def _cut_off(draw: Random, model: str) -> Message:
    """Something right, of which the rest never comes. What needs no more of it is answered all the same."""
    whole = _right(draw, model)
    data = whole.data[: draw.randrange(1, len(whole.data))]
    return Message(data, whole.statuses | _LATE, must=False, last=True, sure=False, bodiless=whole.bodiless)


# -- spoiled -----------------------------------------------------------------------------------------------------------

_WORDS = (
    b"\r\n", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b"\xff", b"\r\n\r\n", b"0\r\n\r\n", b"%00", b"HTTP/1.1", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"Expect: 100-continue\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"\r\nX-Injected: 1\r\n",
)  # fmt: skip


def _flip(draw: Random, data: bytearray, at: int) -> None:
    data[at] ^= 1 << draw.randrange(8)


def _insert(draw: Random, data: bytearray, at: int) -> None:
    data[at:at] = draw.choice(_WORDS)


def _delete(draw: Random, data: bytearray, at: int) -> None:
    del data[at : at + draw.choice((1, 1, 2, 10))]


def _repeat(draw: Random, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + draw.choice((1, 10, 40))] * draw.choice((1, 3))


_CHANGES: tuple[Callable[[Random, bytearray, int], None], ...] = (_flip, _flip, _insert, _insert, _delete, _repeat)


def _spoiled(draw: Random, model: str) -> Message:
    """Something with a few bytes changed. What it is now, nobody knows: any answers but those to a fault of ours."""
    whole = _right(draw, model)
    data = bytearray(draw.choice(WRONG) if whole.bodiless or draw.random() < 0.2 else whole.data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 9))):
        if data:
            draw.choice(_CHANGES)(draw, data, draw.randrange(min(len(data), 1000)))
    return Message(bytes(data), _ANY, must=False, last=True, sure=False)
