"""Connections to a real server over raw sockets: each request that is right gets its own answer, and all else none.

What is wrong is refused with 4xx or by the end of the connection; whatever is sent, the server ends it in time, never
answers 5xx, and writes HTTP. RELIABILITY.md, row 26.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
import socket
import struct
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.e2e.server import Server, until
from tests.fuzz.wire_cases import Case, Message, case

_ECHO = '[models.a]\nworker = "tests.echo_worker:main"\nfile = "rate=0"\npreload = true\n'
_LATE = 4  # seconds, after which a server that is held up may end what it has not read
TIMEOUTS = f'header_timeout = "{_LATE}s"\nbody_timeout = "{_LATE}s"\nkeep_alive = "{_LATE}s"\n'
_WITHIN = 60.0
_AT_ONCE = 250
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*\r\n")
_HEADER = re.compile(rb"([a-z0-9-]+): ([^\x00-\x08\x0a-\x1f\x7f]*)\r\n")
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")


@dataclass(frozen=True)
class Answer:
    status: int
    whole: bool


def run(count: int, seed: int) -> str:
    """So many connections to a server of its own, each from a seed of its own. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, Server(Path(folder), TIMEOUTS + _ECHO) as server:
        until(lambda: server.state("a") == "ready", _WITHIN, "the model is ready")
        before = [server.pid(role) for role in ("root", "proxy-0", "w:a")]
        statuses = asyncio.run(connections(server.port, count, seed, "a"))
        assert [server.pid(role) for role in ("root", "proxy-0", "w:a")] == before, "a process was restarted"
        assert "a bug" not in server.log.read_text(), "a bug is in the log"
        return ", ".join(f"{status or 'none'}: {times:,}" for status, times in sorted(statuses.items()))


async def connections(port: int, count: int, seed: int, model: str) -> collections.Counter[int]:
    """How often each status was answered; 0: connections that ended without any. Raises AssertionError."""
    statuses, numbers = collections.Counter[int](), iter(range(seed, seed + count))

    async def client() -> None:
        for number in numbers:
            one = case(Random(number), model)
            try:
                found = judge(one, *await _talk(port, one))
            except Exception as error:
                raise AssertionError(f"seed {number}: {error!r}\n{one}") from error
            statuses.update([answer.status for answer in found] or [0])

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(count, _AT_ONCE)):
                group.create_task(client())
    except* AssertionError as found:
        raise found.exceptions[0] from None
    return statuses


async def _talk(port: int, one: Case) -> tuple[bytes, bool]:
    """All that came back, and whether its end was proper, and no deadline's. Raises AssertionError if it has none."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()

    async def read() -> bool:
        try:
            while data := await reader.read(1 << 16):
                received.extend(data)
        except ConnectionError:
            return False
        return True

    try:
        async with asyncio.timeout(_WITHIN):
            reading = asyncio.ensure_future(read())
            try:
                await _send(writer, one)
            except OSError:
                pass  # it has heard enough
            proper = await reading and time.monotonic() < began + _LATE
            return bytes(received), proper
    except TimeoutError:
        raise AssertionError(f"still open after {_WITHIN} s; so far {bytes(received)[-500:]!r}") from None
    finally:
        reading.cancel()
        writer.close()


async def _send(writer: asyncio.StreamWriter, one: Case) -> None:
    for start, end in itertools.pairwise([0, *one.cuts, len(one.data)]):
        writer.write(one.data[start:end])
        await writer.drain()
        await asyncio.sleep(one.pause)
    if one.ending == "half":
        writer.write_eof()
    elif one.ending == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


# -- what may come back ------------------------------------------------------------------------------------------------


def judge(one: Case, data: bytes, proper: bool) -> list[Answer]:
    """The answers. Raises AssertionError if they are not those that these messages may get."""
    found = parse(data, [message.bodiless for message in one.messages])
    heard = proper and one.ending == "wait"  # a server that ends with bytes unread takes answers back (TCP)
    assert all(answer.whole for answer in found) or not heard, "an answer is cut off"
    for at, message in enumerate(one.messages):
        rest = found[at:]
        if not message.sure:
            assert all(_fits(message, answer) for answer in rest), f"{found} for {message.data[:200]!r}"
            return found
        if not rest:
            assert not (heard and message.must), f"{found}: no answer to {message.data[:200]!r}"
            return found
        assert _fits(message, rest[0]), f"{rest[0]} for {message.data[:200]!r}"
        if message.last:
            assert len(rest) == 1, f"{rest[1:]} after the end, {message.data[:200]!r}"
            return found
    assert len(found) == len(one.messages), f"{found[len(one.messages) :]} to nobody's request"
    return found


def _fits(message: Message, answer: Answer) -> bool:
    return answer.status in message.statuses


def parse(data: bytes, bodiless: Sequence[bool]) -> list[Answer]:
    """The answers in these bytes, interim ones aside. Raises AssertionError for what is no HTTP."""
    found: list[Answer] = []
    at = 0
    while at < len(data):
        if (start := _STATUS.match(data, at)) is None:
            assert b"\r\n" not in data[at:], f"no answer: {data[at : at + 200]!r}"
            break
        headers, at = _headers(data, start.end())
        status = int(start[1])
        if 100 <= status < 200 and at:
            continue
        empty = status in (204, 304) or (len(found) < len(bodiless) and bodiless[len(found)])
        at = _body(data, at, headers, empty) if at else 0
        found.append(Answer(status, whole=at > 0))
        if not at:
            break
    return found


def _headers(data: bytes, at: int) -> tuple[dict[bytes, bytes], int]:
    """They, and where they end; 0: they have no end."""
    headers: dict[bytes, bytes] = {}
    while not data.startswith(b"\r\n", at):
        if (line := _HEADER.match(data, at)) is None:
            assert b"\r\n" not in data[at:], f"no header: {data[at : at + 200]!r}"
            return headers, 0
        name = line[1]
        assert name not in headers or name == b"vary", f"{name!r} twice"
        assert not name.startswith((b"x-injected", b"set-cookie")), f"{line[0]!r}"
        headers[name], at = line[2], line.end()
    return headers, at + 2


def _body(data: bytes, at: int, headers: dict[bytes, bytes], empty: bool) -> int:
    """Where it ends; 0: it does not."""
    if empty:
        return at
    if (length := headers.get(b"content-length")) is not None:
        assert b"transfer-encoding" not in headers, headers
        at += int(length)
        return at if at <= len(data) else 0
    assert headers.get(b"transfer-encoding") == b"chunked", headers
    while (line := _CHUNK.match(data, at)) is not None:
        at = line.end() + int(line[1], 16) + 2
        if at > len(data):
            return 0
        assert data[at - 2 : at] == b"\r\n", f"a chunk without an end: {data[at - 20 : at + 20]!r}"
        if int(line[1], 16) == 0:
            return at
    assert b"\r\n" not in data[at:], f"no chunk: {data[at : at + 200]!r}"
    return 0
