"""A word to a completion that is under way: its reasoning shall end. And how much of an answer was reasoning."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from supervisor.config import Key
from tests.proxy.harness import FakeWorker, Harness, settings, until
from worker.protocol import Accepted, Delta, EndReasoning, Finished, Reasoning, Started, Timings

PATH = "/v1/chat/completions/control"


class Client:
    """A stream that has begun to reason, read up to its first record."""

    def __init__(self, server: Harness, worker: FakeWorker, **body: Any) -> None:
        self.server, self.worker = server, worker
        messages = [{"role": "user", "content": "hi"}]
        self._body = {"messages": messages, "stream": True, "reasoning_control": True} | body

    async def __aenter__(self) -> Client:
        self._request = self.server.client.stream("POST", "/v1/chat/completions", json=self._body)
        before = len(self.worker.requests)
        self.response = await self._open(before)
        self.lines = self.response.aiter_lines()
        self.id = json.loads((await anext(self.lines)).removeprefix("data: "))["id"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._request.__aexit__(None, None, None)

    async def end(self) -> None:
        """The worker finishes; the rest is read."""
        id = self.ask.id
        self.worker.send(Delta(id, "Hi."), Finished(id, "eos", "", Timings(0, 7, 1.0, 5, 1.0), 3))
        async for _ in self.lines:
            pass

    async def _open(self, before: int) -> Any:
        opening = asyncio.ensure_future(self._request.__aenter__())
        self.ask = await self.worker.next(before + 1)
        self.worker.send(Accepted(self.ask.id, 7), Started(self.ask.id, 0), Reasoning(self.ask.id, "Hm"))
        return await opening


async def say(server: Harness, **body: Any) -> Any:
    response = await server.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_word_reaches_the_worker_while_the_completion_runs() -> None:
    async with Harness() as server:
        worker = await server.attach()
        async with Client(server, worker) as client:
            assert client.ask.reasoning_control
            assert await say(server, id=client.id, action="reasoning_end") == {"success": True}
            await until(lambda: EndReasoning(client.ask.id) in worker.requests)
            assert (await say(server, id=client.id, action="reasoning_end", model="m"))["success"]
            await client.end()
        found = await say(server, id=client.id, action="reasoning_end")
        assert (found["success"], "no such completion" in found["message"]) == (False, True)


async def test_a_completion_that_is_not_armed_cannot_be_steered() -> None:
    async with Harness() as server:
        worker = await server.attach()
        async with Client(server, worker, reasoning_control=False) as client:
            assert not (await say(server, id=client.id, action="reasoning_end"))["success"]
            await client.end()
        assert not (await say(server, id="chatcmpl-x", action="reasoning_end"))["success"]


@pytest.mark.parametrize(
    ("body", "param"),
    [({"action": "reasoning_end"}, "id"), ({"id": "x"}, "action"), ({"id": "x", "action": "stop"}, "action")],
)
async def test_a_word_that_is_none_is_an_error(body: dict[str, Any], param: str) -> None:
    async with Harness() as server:
        response = await server.client.post(PATH, json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_another_keys_completion_cannot_be_steered() -> None:
    keys = tuple(
        Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), models=("*",)) for name in ("alice", "bob")
    )
    async with Harness(settings(keys=keys)) as server:
        worker = await server.attach()
        server.client.headers["authorization"] = "Bearer alice"
        async with Client(server, worker) as client:
            server.client.headers["authorization"] = "Bearer bob"
            assert not (await say(server, id=client.id, action="reasoning_end"))["success"]
            server.client.headers["authorization"] = "Bearer alice"
            assert (await say(server, id=client.id, action="reasoning_end"))["success"]
            await client.end()


async def test_usage_says_how_much_was_reasoning() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post()
        ask = await worker.next()
        timings = Timings(0, 7, 1.0, 9, 1.0)
        worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Reasoning(ask.id, "Hm"), Delta(ask.id, "Hi"))
        worker.send(Finished(ask.id, "eos", "", timings, reasoning_tokens=5))
        usage = (await task).json()["usage"]
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 5}
