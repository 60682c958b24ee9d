"""What one process takes at once: each bound has a key in the configuration, and an error that names it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.bodies import Bodies
from proxy.errors import ApiError
from supervisor.config import Admission, Server
from tests.proxy.harness import CHAT, Harness, settings, until

ROOT = Path(__file__).parents[2]


async def first(server: Harness, data: bytes) -> bytes:
    """The head of what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    head = await asyncio.wait_for(reader.read(65536), 30)
    writer.close()
    return head


async def test_requests_beyond_the_bound_are_told_so_and_health_is_no_such_request() -> None:
    async with Harness(settings(server=Server(max_requests=2))) as server:
        watchers = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for reader, writer in watchers:
            writer.write(b"GET /models/sse HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(100), 30)).startswith(b"HTTP/1.1 200")
        response = await server.client.get("/v1/models")
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["limit"]) == (429, "queue_full", 2)
        assert "[server].max_requests" in error["message"]
        assert (await server.client.get("/health")).status_code == 200
        for _, writer in watchers:
            writer.close()

        async def served() -> bool:
            return (await server.client.get("/v1/models")).status_code == 200

        for _ in range(3000):
            if await served():
                break
            await asyncio.sleep(0.01)
        assert await served()


async def test_bodies_beyond_the_bound_are_told_so_and_their_room_comes_back() -> None:
    async with Harness(settings(server=Server(max_bodies=1000))) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 950\r\n\r\n{" + b" " * 899)
        bodies = server.proxy.services.result().bodies
        await until(lambda: bodies.held == 900)
        response = await server.client.post("/tokenize", content=b"{" + b" " * 200 + b"}")
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["limit"]) == (429, "queue_full", 1000)
        assert "[server].max_bodies" in error["message"]
        assert (await server.client.post("/tokenize", content=b"[]")).status_code == 400
        writer.close()
        await until(lambda: bodies.held == 0)
        assert (await server.client.post("/tokenize", content=b"[" + b" " * 200 + b"]")).status_code == 400


def test_room_is_given_back_whatever_happens() -> None:
    bodies = Bodies(10)
    with bodies.hold() as held:
        held.grow(6)
        with pytest.raises(ApiError):
            held.grow(6)
        assert bodies.held == 6
    assert bodies.held == 0


@pytest.mark.parametrize(
    ("limits", "body", "status", "key"),
    [
        ({"max_body": 100}, b"{" + b" " * 200 + b"}", 413, "max_body"),
        ({"max_depth": 8}, b'{"a":' + b"[" * 9 + b"]" * 9 + b"}", 400, "max_depth"),
        ({"max_messages": 1}, json.dumps({"messages": CHAT["messages"] * 2}).encode(), 400, "max_messages"),
    ],
)
async def test_errors_name_the_key(limits: dict[str, Any], body: bytes, status: int, key: str) -> None:
    async with Harness(settings(server=Server(**limits))) as server:
        response = await server.client.post("/v1/chat/completions", content=body)
        assert response.status_code == status
        assert f"[server].{key}" in response.json()["error"]["message"]


async def test_a_slow_body_and_a_crowd_of_connections_name_the_key_too() -> None:
    async with Harness(settings(server=Server(body_timeout=0.05, max_connections=1))) as server:
        begun = b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{"
        assert b"[server].body_timeout" in await first(server, begun)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await until(lambda: server.proxy._server and len(server.proxy._server.server_state.connections) == 1)
        assert b"[server].max_connections" in await first(server, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        writer.close()


def test_every_bound_of_a_proxy_is_named_by_an_error_or_explained() -> None:
    """A new one must find its way here: errors name keys as [table].key."""
    told = set(re.findall(r"\[(?:server|admission)\]\.(\w+)", " ".join(_sources()))) | {"max_queue", "max_queue_total"}
    bounds = {name for table in (Server, Admission) for name in table.__struct_fields__ if name.startswith("max_")}
    assert bounds - told == {"max_wait"}  # not a bound of requests, but the time after which one makes room


def _sources() -> list[str]:
    return [path.read_text() for path in (ROOT / "proxy").glob("*.py")]
