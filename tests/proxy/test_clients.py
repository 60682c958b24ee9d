"""Clients that leave, and clients that do not read: their work stops, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.config import Server
from supervisor.control import Activity, Drain, Drained, State, Unwant, Want
from tests.proxy.harness import CHAT, WITHIN, Harness, settings, until
from worker.protocol import Accepted, Delta, Started


class Client:
    """A raw connection; `left` closes it at once."""

    def __init__(self, server: Harness, path: str = "/v1/chat/completions", *, headers: str = "", **body: Any) -> None:
        data = json.dumps(CHAT | body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {len(data)}\r\n\r\n".encode()
        self.sock = socket.create_connection(("127.0.0.1", server.port))
        self.sock.sendall(head + data)
        self.sock.setblocking(False)
        server.sockets.append(self.sock)
        self.received = b""

    def leave(self) -> None:
        self.sock.close()

    async def read(self, fact: Callable[[bytes], bool], within: float = WITHIN) -> bytes:
        """Reads until the fact is true of what has come."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within):
            while not fact(self.received):
                data = await loop.sock_recv(self.sock, 1 << 16)
                assert data, f"closed after {self.received!r}"
                self.received += data
        return self.received


@pytest.mark.parametrize("stream", [True, False])
async def test_one_who_leaves_while_waiting_is_forgotten(stream: bool) -> None:
    async with Harness() as server:
        client = Client(server, stream=stream)
        await server.heard(Want)
        client.leave()
        await server.heard(Unwant)
        worker = await server.attach()
        task = server.post()
        worker.reply(await worker.next(), "ok")
        await task
        assert len(worker.requests) == 1


async def test_the_want_stays_while_another_waits() -> None:
    async with Harness() as server:
        client, task = Client(server), server.post()
        await until(lambda: server.proxy.services.result().models.gates["m"].queued == 2)
        client.leave()
        await until(lambda: server.proxy.services.result().models.gates["m"].queued == 1)
        assert server.count(Unwant) == 0
        worker = await server.attach()
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("begun", [True, False])
async def test_one_who_leaves_while_the_worker_works_cancels_it(stream: bool, begun: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        client = Client(server, stream=stream)
        ask = await worker.next()
        if begun:
            worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Delta(ask.id, "a"))
        if begun and stream:
            await client.read(lambda data: b'"content":"a"' in data)
        client.leave()
        await until(lambda: worker.cancelled == [ask.id])
        await until(lambda: server.count(Activity) == 3)  # idle, busy, idle


async def test_one_who_leaves_during_a_drain_lets_it_end() -> None:
    async with Harness() as server:
        worker = await server.attach()
        client = Client(server, stream=True)
        await worker.next()
        server.tell(Drain("m", 1, "requested", deadline=60.0))
        client.leave()
        await server.heard(Drained)


async def test_one_who_does_not_read_delays_no_drain() -> None:
    async with Harness(settings(server=Server(stream_backlog=2**30))) as server:
        worker = await server.attach()
        client = Client(server, stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Delta(ask.id, "a"))
        await client.read(lambda data: b'"content":"a"' in data)
        for _ in range(400):  # more than the kernel takes for a client that reads no further
            worker.send(Delta(ask.id, "x" * 32768))
            await asyncio.sleep(0)
        server.tell(Drain("m", 1, "requested", deadline=0.05))
        await server.heard(Drained)
        client.leave()


async def test_events_for_a_cancelled_request_are_ignored() -> None:
    async with Harness() as server:
        worker = await server.attach()
        client = Client(server, stream=True)
        ask = await worker.next()
        client.leave()
        await until(lambda: worker.cancelled)
        worker.reply(ask, "late")
        task = server.post()
        worker.reply(await worker.next(2), "ok")
        assert (await task).status_code == 200


async def test_silence_is_filled_with_comments_that_say_what_is_awaited() -> None:
    async with Harness(settings(server=Server(sse_ping_interval=0.05, stream_hold=0.1))) as server:
        client = Client(server, stream=True)
        await client.read(lambda data: b": queued 1\n\n" in data)
        await server.change(state=State.LOADING, progress=0.42, facts=None)
        await client.read(lambda data: re.search(rb": loading 0\.42 eta \d+\.\d\n", data) is not None)
        assert client.received.startswith(b"HTTP/1.1 200 OK")
        worker = await server.attach()
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7))
        await client.read(lambda data: b"\r\n:\n\n\r\n" in data)
        await server.change(state=State.FAILED)
        worker.reply(ask, "ok")
        await client.read(lambda data: data.endswith(b"0\r\n\r\n"))
        assert b"[DONE]" in client.received


async def test_a_load_that_fails_after_the_head_is_an_error_record() -> None:
    async with Harness(settings(server=Server(sse_ping_interval=0.02, stream_hold=0.02))) as server:
        client = Client(server, stream=True)
        await client.read(lambda data: b": queued 1" in data)
        await server.change(state=State.FAILED, cause="file_corrupt")
        await client.read(lambda data: data.endswith(b"0\r\n\r\n"))
        assert b'"code":"model_failed"' in client.received
        assert b"[DONE]" not in client.received


async def test_without_pings_the_head_waits_for_the_worker() -> None:
    async with Harness(settings(server=Server(sse_ping_interval=0.02, stream_hold=0.02))) as server:
        task = server.post(stream=True, sse_ping_interval=0)
        await server.heard(Want)
        await asyncio.sleep(0.1)  # longer than the hold
        await server.change(state=State.FAILED)
        assert (await task).status_code == 503


@pytest.mark.parametrize(
    "limits", [{"stream_backlog": 65536}, {"stream_backlog": 2**30, "stream_backlog_timeout": 0.2}]
)
async def test_one_who_does_not_read_is_cut_off_and_the_others_are_served(limits: dict[str, Any]) -> None:
    async with Harness(settings(server=Server(**limits))) as server:
        worker = await server.attach()
        slow, quick = Client(server, stream=True), Client(server, stream=True)
        first, second = await worker.next(1), await worker.next(2)
        for ask in (first, second):
            worker.send(Accepted(ask.id, 7), Started(ask.id, 0))
        reading = asyncio.ensure_future(quick.read(lambda data: b"[DONE]" in data))
        text = "x" * 16384
        for _ in range(1000):
            if first.id in worker.cancelled:
                break
            worker.send(Delta(first.id, text), Delta(second.id, "y"))
            await asyncio.sleep(0.002)
        assert worker.cancelled == [first.id]
        worker.reply(second, "end")
        await reading
        await until(lambda: server.proxy.services.result().models.in_flight == 0)
        with pytest.raises((AssertionError, ConnectionError)):  # cut, not ended
            await slow.read(lambda data: data.endswith(b"0\r\n\r\n"))


async def test_what_the_kernel_would_take_of_one_who_does_not_read_is_no_reserve() -> None:
    """It would take 4 MiB, and the client would count as one that reads."""
    async with Harness(settings(server=Server(stream_backlog=2**30, stream_backlog_timeout=0.2))) as server:
        worker = await server.attach()
        slow = Client(server, stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 0))
        for _ in range(100):
            worker.send(Delta(ask.id, "x" * 16384))
            await asyncio.sleep(0.002)
        await until(lambda: worker.cancelled == [ask.id], 30)
        with pytest.raises((AssertionError, ConnectionError)):
            await slow.read(lambda data: data.endswith(b"0\r\n\r\n"))
