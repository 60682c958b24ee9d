"""What clients do below HTTP: bytes that come slowly, by halves, too many, or never; and names that are none.

Each function acts once against a server and raises AssertionError if it is not dealt with as it must be: answered with
4xx or closed, never with 5xx, and nothing left behind. Rows 23, 24, 26, 28 and 30.
"""

# ruff: noqa: E501 - bytes as they are sent read better in one line

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator

import httpx

_WITHIN = 30.0
_ON_ITS_WAY = 32 * 2**20  # bytes that two kernels' buffers may hold
_CHAT = {"messages": [{"role": "user", "content": "x"}]}
NAMES = (
    "../..", "../../etc/passwd", "/etc/passwd", "..\\..\\x", "%2e%2e/%2e%2e/etc/passwd", "a/../a", "a\x00b", "\x00", "a\r\nSet-Cookie: x=1",
    "n" * 10_000, "é\u202e\U0001f600", "\ufeff", "con", "-", "~", "$(id)", "{id}", "*", " ",
)  # fmt: skip


class Answer:
    """What came back: the bytes, the statuses in them, and whether the server closed."""

    def __init__(self, data: bytes, closed: bool) -> None:
        self.data, self.closed = data, closed
        lines = data.split(b"HTTP/1.1 ")[1:]
        self.statuses = [int(line[:3]) for line in lines]

    def refused(self) -> bool:
        return (self.closed and not self.data) or (
            bool(self.statuses) and all(400 <= one < 500 for one in self.statuses)
        )


def request(path: str = "/v1/chat/completions", body: bytes = b"{}", *headers: bytes, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", *headers]
    if method == "POST" and not any(line.lower().startswith((b"content-length", b"transfer")) for line in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def exchange(port: int, *parts: bytes, pause: float = 0.0, until: int = 0, within: float = _WITHIN) -> Answer:
    """Sends the parts, and reads until the server closes or has given so many answers."""
    data, end = b"", time.monotonic() + within
    with socket.create_connection(("127.0.0.1", port), timeout=within) as sock:
        try:
            for part in parts:
                sock.sendall(part)
                time.sleep(pause)
            while time.monotonic() < end and not (until and _complete(data) >= until):
                sock.settimeout(max(0.01, end - time.monotonic()))
                if not (more := sock.recv(1 << 20)):
                    return Answer(data, closed=True)
                data += more
        except TimeoutError:
            return Answer(data, closed=False)
        except OSError:
            return Answer(data, closed=True)
    return Answer(data, closed=False)


def _complete(data: bytes) -> int:
    """Whole answers with a declared length."""
    found = 0
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if not lengths or len(data) < lengths[0]:
            break
        found, data = found + 1, data[lengths[0] :]
    return found


# -- rows -------------------------------------------------------------------------------------------------------------


def slow_headers(port: int, clients: int, within: float) -> float:
    """Headers that come byte by byte: every connection is closed in time. Returns seconds to the last."""
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
    began, left = time.monotonic(), set(socks)
    head = request("/health", b"", method="GET").rstrip()
    try:
        for at in range(10**6):
            for sock in tuple(left):
                try:
                    sock.sendall(head[at % len(head) :][:1] if at < len(head) else b"x")
                except OSError:
                    left.discard(sock)
            readable, _, _ = select.select(tuple(left), (), (), 0.2) if left else ((), (), ())
            for sock in readable:
                with contextlib.suppress(OSError):
                    assert not (data := sock.recv(1000)), f"a request without an end was answered: {data!r}"
                left.discard(sock)
            if not left:
                return time.monotonic() - began
            assert time.monotonic() < began + within, f"{len(left)} of {clients} are still open"
    finally:
        for sock in socks:
            sock.close()
    raise AssertionError


def half_bodies(port: int, within: float = _WITHIN) -> None:
    """A body of which only a part comes: 408 and the end, as soon as `body_timeout` is over."""
    declared = request("/tokenize", b'{"a', b"Content-Length: 100")
    chunked = request("/tokenize", b'5\r\n{"a"', b"Transfer-Encoding: chunked")
    for sent in (declared, chunked):
        found = exchange(port, sent, within=within)
        assert found.closed, f"still open: {sent!r}"
        assert found.statuses == [408], found.data[:300]


def pipelined(port: int, count: int = 20) -> None:
    """Requests that do not wait for answers get them, in order."""
    sent = b"".join(
        request("/health", b"", f"X-Request-Id: r{number}".encode(), method="GET") for number in range(count)
    )
    found = exchange(port, sent, until=count)
    assert found.statuses == [200] * count, found.statuses
    ids = [line.split(b": ")[1] for line in found.data.lower().split(b"\r\n") if line.startswith(b"x-request-id")]
    assert ids == [b"r%d" % number for number in range(count)], ids
    mixed = request("/tokenize", b"[]") + request("/nope", b"{}") + request("/health", b"", method="GET")
    assert exchange(port, mixed, until=3).statuses == [400, 404, 200]


def chunked_lies(port: int, within: float = 3.0) -> None:
    """Chunks that are not what they say."""
    head = request("/tokenize", b"", b"Transfer-Encoding: chunked")
    for body in (
        b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"ffffffffffffffffff\r\n{", b"2\r\n{}}}}}\r\n0\r\n\r\n", b"2;" + b"x" * 70_000 + b"\r\n{}\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n", b"\r\n", b"1\r\n[\r\n0\r\n\r\n", b"2\r\n[]\r\n0\r\nTrailer: a\x00b\r\n\r\n",
    ):  # fmt: skip
        found = exchange(port, head, body, until=1, within=within)
        assert found.refused() or not (found.data or found.closed), f"{body[:40]!r} → {found.data[:200]!r}"
    both = request("/tokenize", b"2\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", b"Content-Length: 3")
    assert all(status < 500 for status in exchange(port, both, until=1, within=within).statuses)


def injected(port: int) -> None:
    """No line break of a client's gets into a header of ours."""
    bad = (
        request("/v1/models/a%0d%0aSet-Cookie:%20x=1", b"", method="GET"),
        request("/health?a=%0d%0aSet-Cookie:%20x=1", b"", method="GET"),
        request("/tokenize", json.dumps({"model": "a\r\nSet-Cookie: x=1"}).encode()),
        request("/health", b"", b"X-Request-Id: a\rSet-Cookie: x=1", method="GET"),
        request("/health", b"", b"Origin: http://localhost\rSet-Cookie: x=1", method="GET"),
        request("/upstream/a%0d%0aSet-Cookie:%20x=1/health", b"", method="GET"),
    )
    for sent in bad:
        found = exchange(port, sent, until=1, within=5.0)
        heads = [part.partition(b"\r\n\r\n")[0].lower() for part in found.data.split(b"HTTP/1.1 ")]
        assert not any(b"\nset-cookie" in head or b"\rset-cookie" in head for head in heads), found.data[:500]
        assert all(status < 500 for status in found.statuses), found.statuses


def sizes(port: int, limit: int, above: int = 2**30) -> None:
    """Bodies of limit − 1, limit and limit + 1, declared and in chunks; and one of a GiB that is only declared."""
    front = b'{"model":"none","x":"'
    for size in (limit - 1, limit, limit + 1):
        body = front + b"a" * (size - len(front) - 2) + b'"}'
        for sent in (request("/models/load", body), _in_chunks("/models/load", body)):
            found = exchange(port, sent, until=1)
            assert found.statuses == [413 if size > limit else 404], f"{size}: {found.data[:300]!r}"
    declared = exchange(port, request("/models/load", b"{", b"Content-Length: %d" % above), until=1)
    assert declared.statuses == [413], declared.data[:200]


def undeclared(port: int, size: int, limit: int) -> None:
    """A body of which nobody says how long it is: 413 soon after the limit, not at its end."""
    sent, piece = 0, b"%x\r\n%b\r\n" % (2**16, b" " * 2**16)
    with socket.create_connection(("127.0.0.1", port), timeout=_WITHIN) as sock:
        sock.sendall(request("/models/load", b"", b"Transfer-Encoding: chunked"))
        while sent < size and not select.select([sock], [], [], 0)[0]:
            sock.sendall(piece)
            sent += 2**16
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 "), f"after {sent} bytes"
    assert sent < limit + _ON_ITS_WAY, f"413 after {sent} bytes only"


def _in_chunks(path: str, body: bytes) -> bytes:
    parts = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return request(path, chunks, b"Transfer-Encoding: chunked")


def names(url: str) -> None:
    """Names of models that look like paths are names that no model has, in every place where one may stand."""
    with httpx.Client(base_url=url, timeout=_WITHIN) as client:
        for name in NAMES:
            answers = [
                client.post("/v1/chat/completions", json=_CHAT | {"model": name}),
                client.post("/api/show", json={"model": name}),
                client.post("/models/unload", json={"model": name}),
                client.get("/props", params={"model": name}),
                client.get(f"/v1/models/{_escaped(name)}"),
                client.post(f"/api/models/unload/{_escaped(name)}"),
                client.get(f"/logs/stream/{_escaped(name)}"),
                client.get(f"/upstream/{_escaped(name)}/props"),
            ]
            for answer in answers:
                assert answer.status_code in (400, 404, 405), f"{name[:40]!r}: {answer.url} {answer.status_code}"


def _escaped(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in name.encode())


@contextlib.contextmanager
def deaf(port: int, body: dict[str, object], clients: int = 1) -> Iterator[list[socket.socket]]:
    """Clients that ask for a stream and never read it. They cannot see their end: their window is shut."""
    socks = []
    for _ in range(clients):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.sendall(request(body=json.dumps(body | {"stream": True}).encode()))
        socks.append(sock)
    try:
        yield socks
    finally:
        for sock in socks:
            sock.close()


def idle(port: int, count: int) -> list[socket.socket]:
    """So many connections that ask nothing more: each has had one answer."""
    socks = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=_WITHIN)
        sock.sendall(request("/health", b"", method="GET"))
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        socks.append(sock)
    return socks
