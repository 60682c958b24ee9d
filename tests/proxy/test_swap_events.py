"""GET /api/events as llama-swap's clients read it, and the routes that are answered without being built."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from supervisor.control import State
from tests.proxy.harness import WITHIN, Harness, settings
from tests.proxy.test_edges import KEYS
from tests.proxy.test_llama_swap import Log, taken
from worker.protocol import Accepted, Delta, Finished, Started, Timings


class Watcher:
    """Reads events of one type after the other, each `(type, data)`."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.kinds: list[str] = []

    async def next(self, kind: str) -> Any:
        async with asyncio.timeout(WITHIN):
            async for line in self._lines:
                if line.startswith("data: "):
                    found = json.loads(line[6:])
                    self.kinds.append(found["type"])
                    if found["type"] == kind:
                        return json.loads(found["data"])
        raise AssertionError("the stream has ended")

    async def end(self) -> None:
        async with asyncio.timeout(WITHIN):
            async for _ in self._lines:
                pass


@asynccontextmanager
async def watching(server: Harness, **headers: str) -> AsyncIterator[Watcher]:
    async with server.client.stream("GET", "/api/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Watcher(response)


async def test_models_are_told_as_they_are_and_when_they_change() -> None:
    async with Harness() as server, watching(server) as watcher:
        (model,) = await watcher.next("modelStatus")
        assert (model["id"], model["state"], model["aliases"], model["peerID"]) == ("m", "stopped", ["m-alias"], "")
        assert model.keys() == {
            "id", "name", "description", "state", "unlisted", "peerID", "aliases", "capabilities", "context_length",
        }  # fmt: skip
        await server.change(state=State.LOADING, facts=None)
        assert (await watcher.next("modelStatus"))[0]["state"] == "starting"
        await server.change()
        assert (await watcher.next("modelStatus"))[0]["state"] == "ready"


async def test_requests_are_told_when_they_come_and_go_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.routes.swap_events._LOOK", 0.05)
    async with Harness() as server:
        worker = await server.attach()
        async with watching(server) as watcher:
            assert await watcher.next("inflight") == {"operation": "snapshot", "requests": []}
            task = server.post(stream=True)
            ask = await worker.next()
            worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a"))
            told = await watcher.next("inflight")
            request = told["request"]
            assert told["operation"] == "upsert"
            assert (request["model"], request["req_path"], request["method"]) == ("m", "/v1/chat/completions", "POST")
            assert (request["remote_ip"], request["req_headers"], request["resp_headers"]) == ("127.0.0.1", {}, {})
            while not told["request"]["resp_bytes"]:
                told = await watcher.next("inflight")
            response = await server.client.post(f"/api/inflight/{request['id']}/cancel")
            assert response.json() == {"msg": "ok"}
            assert "cancelled" in (await task).text
            while told["operation"] != "remove":
                told = await watcher.next("inflight")
            assert told["id"] == request["id"]
        again = await server.client.post(f"/api/inflight/{request['id']}/cancel")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


async def test_a_watcher_that_comes_later_gets_what_runs() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=True)
        ask = await worker.next()
        async with watching(server) as watcher:
            (running,) = (await watcher.next("inflight"))["requests"]
            assert running["model"] == "m"
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 0, 0.0)))
        await task


async def test_lines_of_the_log_are_for_admins() -> None:
    async with Harness(settings("ab", "b", keys=KEYS)) as server:
        root, worker = Log(server, "root"), Log(server, "w:ab")
        await taken(server, 2)
        root.write("started\n")
        worker.write("loading\n")
        async with watching(server, **{"x-api-key": "root"}) as watcher:
            found = [await watcher.next("logData") for _ in range(2)]
            assert sorted((each["source"], each["data"].split()[-1]) for each in found) == [
                ("proxy", "started"),
                ("upstream", "loading"),
            ]
        async with watching(server, **{"x-api-key": "alice"}) as watcher:
            assert [model["id"] for model in await watcher.next("modelStatus")] == ["ab"]
            root.write("secret\n")
            await server.change("ab", state=State.LOADING, facts=None)
            await watcher.next("modelStatus")
            assert "logData" not in watcher.kinds
        for log in (root, worker):
            log.close()


async def test_watchers_are_let_go_when_the_server_stops() -> None:
    async with Harness() as server, watching(server) as watcher:
        await watcher.next("modelStatus")
        server.proxy.services.result().feed.close()
        await watcher.end()


async def test_its_head_alone() -> None:
    async with Harness() as server:
        assert (await server.client.head("/api/events")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/props", 501, "unsupported_feature"),
        ("POST", "/slots/0?action=save", 501, "unsupported_feature"),
        ("POST", "/v1/audio/transcriptions", 501, "unsupported_feature"),
        ("GET", "/tools", 403, "feature_disabled"),
        ("POST", "/tools", 403, "feature_disabled"),
        ("GET", "/cors-proxy?url=x", 403, "feature_disabled"),
    ],
)
async def test_what_is_not_built_says_so(method: str, path: str, status: int, code: str) -> None:
    async with Harness(settings("ab", "b", keys=KEYS)) as server:
        server.client.headers["x-api-key"] = "root"
        response = await server.client.request(method, path)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert response.headers.get("x-should-retry", "false") == "false"
