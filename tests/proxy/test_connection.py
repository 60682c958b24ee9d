"""One connection below HTTP: what is no request, comes in the wrong order, in parts, too much, or is never taken."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from typing import Any

import pytest

from proxy.deadline import Deadline
from supervisor.config import Server
from supervisor.control import ModelCommand, State
from tests.proxy.harness import WITHIN, Harness, settings, until

HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
CHAT = b'{"messages":[{"role":"user","content":"hi"}]}'


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"host: localhost", *headers]
    if not any(line.lower().startswith((b"content-length", b"transfer-encoding")) for line in headers):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Wire:
    """A raw connection, and all that came over it so far."""

    def __init__(self, server: Harness) -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port))
        self.sock.setblocking(False)
        server.sockets.append(self.sock)
        self.received, self.closed = b"", False

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, data), WITHIN)

    async def flood(self, data: bytes) -> None:
        """Sends it again and again, until the server wants no more of it."""
        try:
            for _ in range(1000):
                await self.send(data)
        except ConnectionError:
            self.closed = True

    async def answers(self, count: int) -> list[int]:
        """The statuses of so many answers, or of all if it is closed before."""
        async with asyncio.timeout(WITHIN):
            while len(self.statuses) < count and await self._more():
                pass
        return self.statuses

    async def end(self) -> bytes:
        """Everything, up to its end."""
        async with asyncio.timeout(WITHIN):
            while await self._more():
                pass
        return self.received

    @property
    def statuses(self) -> list[int]:
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", self.received)]

    async def _more(self) -> bool:
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        except ConnectionError:
            data = b""
        self.received += data
        self.closed = self.closed or not data
        return bool(data)


# -- what is no HTTP, after what is ------------------------------------------------------------------------------------


async def test_what_was_asked_before_is_answered_before_the_rest_is_refused() -> None:
    async with Harness() as server:
        worker = await server.attach()
        wire = Wire(server)
        await wire.send(post(CHAT) + HEALTH + b"NONSENSE\r\n\r\n" + HEALTH)
        worker.reply(await worker.next(), "ok")
        assert b'"content":"ok"' in await wire.end()
        assert wire.statuses == [200, 200, 400]


async def test_a_request_whose_body_breaks_off_is_refused_and_not_begun() -> None:
    async with Harness() as server:
        worker = await server.attach()
        wire = Wire(server)
        broken = post(b"zz\r\n", b"transfer-encoding: chunked", path=b"/models/unload")
        await wire.send(post(CHAT) + broken)
        worker.reply(await worker.next(), "ok")
        assert b"the request is not HTTP: " in await wire.end()
        assert wire.statuses == [200, 400]
        assert server.count(ModelCommand) == 0


@pytest.mark.parametrize("path", [b"/models/load", b"/health"])
@pytest.mark.parametrize("more", [[], [b"expect: 100-continue"]])
async def test_a_body_that_becomes_nonsense_on_its_way_ends_its_request(
    path: bytes, more: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with Harness() as server:
        wire = Wire(server)
        await wire.send(post(b"2\r\n{\r\n", b"transfer-encoding: chunked", *more, path=path) + b"zz\r\n" + HEALTH)
        await wire.end()
        assert wire.statuses in ([400], [405])  # /health is refused before anything of its body is looked at
        await server.client.get("/health")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- requests that do not wait -----------------------------------------------------------------------------------------


async def test_requests_that_do_not_wait_are_bounded_and_those_within_the_bound_answered() -> None:
    async with Harness(settings(server=Server(max_pipelined=3))) as server:
        worker = await server.attach()
        wire = Wire(server)
        await wire.send(post(CHAT) + HEALTH * 9)
        worker.reply(await worker.next(), "ok")
        assert b"[server].max_pipelined" in await wire.end()
        assert wire.statuses == [200, 200, 200, 200, 429]


async def test_one_who_leaves_before_the_first_of_his_requests_is_answered_ends_them_all() -> None:
    async with Harness() as server:
        worker = await server.attach()
        wire = Wire(server)
        await wire.send(post(CHAT))
        ask = await worker.next()
        await wire.send(post(CHAT) + post(b'{"model":"m"}', path=b"/models/unload"))
        connections = server.proxy._server.server_state.connections  # type: ignore[union-attr]
        await until(lambda: any(len(each.pipeline) == 2 for each in connections))  # type: ignore[union-attr]
        wire.sock.close()
        await until(lambda: worker.cancelled == [ask.id])
        assert (await server.client.get("/health")).status_code == 200
        assert len(worker.requests) == 1
        assert server.count(ModelCommand) == 0


async def test_a_request_whose_turn_has_not_come_is_not_late() -> None:
    async with Harness(settings(server=Server(header_timeout=0.2))) as server:
        worker = await server.attach()
        wire = Wire(server)
        await wire.send(post(CHAT) + HEALTH[:20])
        ask = await worker.next()
        await asyncio.sleep(0.6)
        await wire.send(HEALTH[20:])
        worker.reply(ask, "ok")
        assert await wire.answers(2) == [200, 200]


async def test_one_who_goes_on_and_on_after_a_refusal_is_cut_off() -> None:
    async with Harness() as server:
        worker = await server.attach()
        wire = Wire(server)
        await wire.send(post(CHAT) + b"NONSENSE\r\n\r\n")
        ask = await worker.next()
        await wire.flood(b"x" * 100_000)
        assert wire.closed
        await until(lambda: worker.cancelled == [ask.id])


# -- what is nothing ---------------------------------------------------------------------------------------------------


async def test_what_comes_between_two_requests_and_begins_none_keeps_no_connection_open() -> None:
    async with Harness(settings(server=Server(keep_alive=0.2))) as server:
        wire = Wire(server)
        await wire.send(HEALTH)
        assert await wire.answers(1) == [200]
        await wire.send(b"\r\n")
        await wire.end()


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\na: ", b"a"),
        (b"GET /", b"a"),
        (post(b"2\r\n{}\r\n0\r\na: ", b"transfer-encoding: chunked", path=b"/models/load"), b"a"),
        (post(b"2\r\n{}\r\n0\r\n", b"transfer-encoding: chunked", path=b"/models/load"), b"a: b\r\n"),
        (post(b"2;", b"transfer-encoding: chunked", path=b"/models/load"), b"a"),
        (b"", b"\r\n"),
    ],
)
async def test_a_line_that_does_not_end_is_refused_before_it_fills_the_memory(begun: bytes, rest: bytes) -> None:
    async with Harness(settings(server=Server(header_timeout=WITHIN, body_timeout=WITHIN))) as server:
        wire = Wire(server)
        await wire.send(begun)
        flood = asyncio.ensure_future(wire.flood(rest * 10_000))
        assert b"[server].max_headers" in await wire.end()
        assert wire.statuses == [431]
        await flood
        assert wire.closed


async def test_trailers_are_no_headers() -> None:
    async with Harness() as server:
        worker = await server.attach()
        wire = Wire(server)
        body = b"%x\r\n%b\r\n0\r\nx-conversation-id: a\r\nhost: evil.example\r\n\r\n" % (len(CHAT), CHAT)
        await wire.send(post(body, b"transfer-encoding: chunked"))
        await worker.next()
        connections = server.proxy._server.server_state.connections  # type: ignore[union-attr]
        names = {name for each in connections for name, _ in each.scope["headers"]}  # type: ignore[union-attr]
        assert b"transfer-encoding" in names
        assert not names & {b"x-conversation-id", b"user-agent"}
        worker.reply(await worker.next(), "ok")
        assert await wire.answers(1) == [200]


# -- what a client offers, and what it lies about ----------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 1000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_request_that_offers_an_upgrade_is_answered_as_if_it_did_not(parts: int, chunked: bool) -> None:
    """As clients of Java and `curl --http2` do with every request. The parser alone would lose the body."""
    async with Harness() as server:
        worker = await server.attach()
        wire = Wire(server)
        offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT) if chunked else CHAT
        data = post(body, offer, *([b"transfer-encoding: chunked"] if chunked else [])) + HEALTH
        size = -(-len(data) // parts)
        for at in range(0, len(data), size):
            await wire.send(data[at : at + size])
            await asyncio.sleep(0)
        ask = await worker.next()
        worker.reply(ask, "ok")
        assert await wire.answers(2) == [200, 200]
        await wire.send(HEALTH.replace(b"\r\n\r\n", b"\r\n" + offer + b"\r\n\r\n") + HEALTH)
        assert await wire.answers(4) == [200] * 4
        assert len(worker.requests) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/2.0\r\nhost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        post(b"0\r\n\r\n", b"transfer-encoding: chunked", b"content-length: 5", path=b"/models/load"),
        post(b"{}", b"content-length: 2", b"content-length: 2", path=b"/models/load"),
        post(b"{}", b"content-length: 2", b"transfer-encoding: identity", path=b"/models/load"),
        post(b"{}", b"transfer-encoding: xchunked", path=b"/models/load"),
    ],
)
async def test_who_lies_about_the_rest_is_refused_and_the_rest_is_no_request(sent: bytes) -> None:
    async with Harness() as server:
        wire = Wire(server)
        await wire.send(sent + HEALTH)
        await wire.end()
        assert wire.statuses == [400]


# -- answers that nobody takes -----------------------------------------------------------------------------------------


async def test_answers_that_are_not_taken_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with Harness(settings(server=Server(stream_backlog_timeout=0.3))) as server:
        wire = Wire(server)
        with caplog.at_level(logging.INFO, "proxy.access"):
            await wire.send(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 60)
            await until(lambda: not server.proxy._server.server_state.connections)  # type: ignore[union-attr]
            await until(lambda: "outcome=client_stalled" in caplog.text)
        services: Any = server.proxy.services.result()
        assert services.models.gates["m"].status.state is State.UNLOADED


# -- deadlines ---------------------------------------------------------------------------------------------------------


async def test_a_deadline_that_this_process_was_held_up_beyond_begins_once_more() -> None:
    called = asyncio.Event()
    deadline = Deadline(called.set)
    deadline.set(0.3)
    time.sleep(1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert deadline.runs
    assert not called.is_set()
    await asyncio.wait_for(called.wait(), WITHIN)
    assert not deadline.runs
