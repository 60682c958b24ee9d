"""Reasoning and tool calls in chat completions: chunks in the documented order, and the same as one object."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from supervisor.config import Server
from tests.proxy.harness import FakeWorker, Harness, settings, until
from tests.proxy.test_generation import records
from worker.protocol import Accepted, CallDelta, CallStart, Delta, Finished, Generate, Reasoning, Started, Timings

TOOLS = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]


def call(worker: FakeWorker, ask: Generate, reason: str = "eos") -> None:
    id = ask.id
    worker.send(Accepted(id, 7), Started(id, 3), Reasoning(id, "Hm"), Reasoning(id, "."))
    worker.send(Delta(id, "Sure"), Delta(id, ".", 2), CallStart(id, 0, "call_1", "f", 3), CallDelta(id, 0, '{"a"'))
    worker.send(CallDelta(id, 0, ": 1}"), CallStart(id, 1, "call_2", "g"), CallDelta(id, 1, "{}"))
    worker.send(Finished(id, reason, "", Timings(3, 4, 1.0, 11, 1.0)))


async def answered(reason: str = "eos", **body: Any) -> Any:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(tools=TOOLS, **body)
        call(worker, await worker.next(), reason)
        response = await task
        return records(response.text) if body.get("stream") else response.json()


async def test_a_message_with_reasoning_and_calls_has_exactly_its_fields() -> None:
    found = await answered()
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Sure.",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


async def test_chunks_have_one_kind_of_delta_each_in_the_models_order() -> None:
    *chunks, done = await answered(stream=True)
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    assert all(len(delta) == 1 for delta in deltas[1:-1])
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert "".join(delta.get("content") or "" for delta in deltas[1:]) == "Sure."
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls == [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    kinds = [next(iter(delta)) for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, key=["reasoning_content", "content", "tool_calls"].index)
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["tool_calls"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_is_cut_off_ends_with_length(stream: bool) -> None:
    found = await answered("limit", stream=stream)
    last = found[-2] if stream else found
    assert last["choices"][0]["finish_reason"] == "length"


async def test_content_is_empty_not_null_beside_a_call() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(tools=TOOLS)
        ask = await worker.next()
        events = [CallStart(ask.id, 0, "call_1", "f"), CallDelta(ask.id, 0, "{}")]
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), *events, Finished(ask.id, "eos", "", Timings()))
        message = (await task).json()["choices"][0]["message"]
        assert message["content"] == ""
        assert "reasoning_content" not in message


async def test_timings_per_token_count_every_kind_of_delta() -> None:
    *chunks, _ = await answered(stream=True, timings_per_token=True)
    counts = [chunk["timings"]["predicted_n"] for chunk in chunks if "timings" in chunk]
    assert counts == sorted(counts)
    assert counts[-2:] == [11, 11]  # as counted here from the deltas, and as the worker says in the end


async def test_a_slow_client_pays_for_reasoning_too() -> None:
    async with Harness(settings(server=Server(stream_backlog=1000))) as server:
        worker = await server.attach()
        task = server.post(stream=True, tools=TOOLS)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), *(Reasoning(ask.id, "x" * 100) for _ in range(50)))
        with pytest.raises(httpx.RemoteProtocolError):
            await task
        await until(lambda: worker.cancelled == [ask.id])
