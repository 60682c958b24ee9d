"""Chat and text completions over real sockets: shapes, order, and that a stream is the same answer."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest

from tests.proxy.harness import CHAT, FakeWorker, Harness
from worker.protocol import (
    Accepted,
    Alternative,
    Chat,
    Delta,
    Failed,
    Finished,
    Probability,
    Progress,
    Rendered,
    Started,
    Text,
    Timings,
    Tokens,
)

TEXTS = ("Hel", "lo", " wörld", ' "quoted"\n', "\u2028🙂")


def records(body: str) -> list[Any]:
    """The data of every record; a stream's end mark as its text."""
    assert body.endswith("\n\n")
    lines = [record.removeprefix("data: ") for record in body.split("\n\n") if record.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def answered(server: Harness, worker: FakeWorker, path: str, number: int = 1, **body: Any) -> httpx.Response:
    task = server.post(path, **body)
    worker.reply(await worker.next(number), *TEXTS)
    return await task


async def test_a_chat_completion_has_exactly_its_fields() -> None:
    async with Harness() as server:
        worker = await server.attach()
        response = await answered(server, worker, "/v1/chat/completions", model="m-alias")
        found = response.json()
        assert response.status_code == 200
        assert list(found) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage", "timings"]
        assert found["object"] == "chat.completion"
        assert found["model"] == "m"
        message = {"role": "assistant", "content": "".join(TEXTS)}
        assert found["choices"] == [{"index": 0, "finish_reason": "stop", "message": message}]
        assert found["usage"] == {
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 3},
        }
        assert found["timings"]["prompt_per_second"] == 400.0
        assert found["timings"]["predicted_per_token_ms"] == 5.0  # five tokens are four steps
        assert response.headers["x-model"] == "m"
        assert float(response.headers["x-queue-ms"]) >= 0


async def test_chunks_come_in_the_documented_order() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=True, stream_options={"include_usage": True}, return_progress=True)
        ask = await worker.next()
        assert ask.return_progress
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Progress(ask.id, 7, 3, 3, 0.0))
        worker.send(Progress(ask.id, 7, 3, 7, 1.6), Delta(ask.id, "a"))
        worker.send(Delta(ask.id, "b"), Delta(ask.id, "c"), Finished(ask.id, "limit", "", Timings(3, 4, 1.0, 3, 1.0)))
        response = await task
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-accel-buffering"] == "no"
        *chunks, done = records(response.text)
        assert done == "[DONE]"
        assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
        role = {"role": "assistant", "content": None}
        progress = [chunk["prompt_progress"]["processed"] for chunk in chunks if "prompt_progress" in chunk]
        assert progress == [3, 7]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
        assert deltas[:3] == [role, role, role]
        assert "".join(delta["content"] for delta in deltas[3:-1]) == "abc"
        assert deltas[-1] == {}
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == 3
        assert "timings" in chunks[-1]
        assert "timings" not in chunks[-2]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_put_together_is_the_unstreamed_answer(path: str) -> None:
    body = CHAT if "chat" in path else {"prompt": "once"}
    async with Harness() as server:
        worker = await server.attach()
        whole = (await answered(server, worker, path, **body)).json()
        chunks = records((await answered(server, worker, path, 2, **body, stream=True)).text)[:-1]
        if "chat" in path:
            parts = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
            assert "".join(parts) == whole["choices"][0]["message"]["content"] == "".join(TEXTS)
        else:
            parts = [chunk["choices"][0]["text"] for chunk in chunks]
            assert "".join(parts) == whole["choices"][0]["text"] == "".join(TEXTS)
            assert chunks[-1]["usage"] == whole["usage"]
        assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert chunks[-1]["timings"] == whole["timings"]
        asks = worker.requests
        assert [ask.stream for ask in asks] == [False, True]


async def test_choices_have_numbers_of_their_own_and_count_their_prompt_once() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/completions", prompt=["p", "q"], n=2)
        asks = [await worker.next(number) for number in (1, 2)]
        numbers = [number for ask in asks for number in (ask.id, *ask.siblings)]
        assert len(set(numbers)) == 4
        for place, number in reversed(list(enumerate(numbers))):
            prompt = 0 if place % 2 else 7
            worker.send(Accepted(number, prompt), Started(number, 0), Delta(number, f"text {place}", 2))
            worker.send(Finished(number, "eos", "", Timings(0, prompt, 1.0, 2, 1.0)))
        found = (await task).json()
        assert [(choice["index"], choice["text"]) for choice in found["choices"]] == [
            (place, f"text {place}") for place in range(4)
        ]
        assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (14, 8)
        assert (found["timings"]["prompt_n"], found["timings"]["predicted_n"]) == (14, 8)


def likely(id: int, piece: bytes, value: float) -> Probability:
    return Probability(id, piece, value, [Alternative(id, piece, value), Alternative(9, b"\xff", -math.inf)])


def shown(id: int, token: str, raw: list[int], value: float, name: str = "logprob") -> dict[str, Any]:
    return {"id": id, "token": token, "bytes": raw, name: value}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [True, False])
async def test_probabilities_in_a_chat(stream: bool, after: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=stream, logprobs=True, top_logprobs=2, post_sampling_probs=after)
        ask = await worker.next()
        assert (ask.n_probs, ask.post_sampling_probs) == (2, after)
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a", 1, [likely(1, b"a", -0.5)]))
        worker.send(Delta(ask.id, "", 1, [likely(2, b"\xc3", -0.25)]), Finished(ask.id, "eos", "", Timings()))
        response = await task
        if stream:
            choices = [chunk["choices"][0] for chunk in records(response.text)[:-1]]
            found = [entry for choice in choices for entry in choice.get("logprobs", {}).get("content", [])]
            assert "".join(choice["delta"].get("content") or "" for choice in choices) == "a"
        else:
            found = response.json()["choices"][0]["logprobs"]["content"]
        one, many = ("prob", "top_probs") if after else ("logprob", "top_logprobs")
        other = shown(9, "\ufffd", [255], -3.4028235e38, one)
        assert found == [
            shown(1, "a", [97], -0.5, one) | {many: [shown(1, "a", [97], -0.5, one), other]},
            shown(2, "\ufffd", [195], -0.25, one) | {many: [shown(2, "\ufffd", [195], -0.25, one), other]},
        ]


@pytest.mark.parametrize("stream", [True, False])
async def test_probabilities_in_a_completion_have_the_legacy_arrays(stream: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/completions", prompt="x", stream=stream, logprobs=1)
        ask = await worker.next()
        parts = [b"ab", b"\xc3", b"\xa4", b"c"]
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "ab", 1, [likely(0, b"ab", -0.5)]))
        probs = [likely(number, part, -0.5) for number, part in enumerate(parts)][1:]
        worker.send(Delta(ask.id, "äc", 3, probs), Finished(ask.id, "eos", "", Timings()))
        response = await task
        chunks = records(response.text)[:-1] if stream else [response.json()]
        found = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
        joined = {name: [item for part in found for item in part[name]] for name in found[0]}
        assert joined["tokens"] == ["ab", "\ufffd", "\ufffd", "c"]
        assert joined["text_offset"] == [0, 2, 2, 3]
        assert joined["token_logprobs"] == [-0.5] * 4
        assert joined["top_logprobs"][0] == {"ab": -0.5, "\ufffd": -3.4028235e38}
        assert [entry["id"] for entry in joined["content"]] == [0, 1, 2, 3]


async def test_an_answer_without_one_token_has_the_same_shape() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=True)
        worker.reply(await worker.next())
        first, last, done = records((await task).text)
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
        assert last["choices"][0]["finish_reason"] == "stop"
        assert done == "[DONE]"


async def test_timings_per_token_stand_in_each_chunk() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=True, timings_per_token=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a", 2))
        worker.send(Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 2, 1.0)))
        chunk = records((await task).text)[1]
        assert chunk["choices"][0]["delta"] == {"content": "a"}
        assert chunk["timings"]["predicted_n"] == 2
        assert chunk["timings"]["cache_n"] == 3


async def test_several_prompts_are_answered_in_their_order() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/completions", prompt=["one", [1, 2]], max_tokens=3)
        first, second = await worker.next(1), await worker.next(2)
        assert [first.prompt, second.prompt] == [Text(("one",)), Text((1, 2))]
        worker.reply(second, "B", "b")
        worker.reply(first, "A")
        found = (await task).json()
        assert [(choice["index"], choice["text"]) for choice in found["choices"]] == [(0, "A"), (1, "Bb")]
        assert found["usage"]["prompt_tokens"] == 14
        assert found["usage"]["completion_tokens"] == 3


async def test_streamed_prompts_keep_their_index() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/completions", prompt=["one", "two"], echo=True, stream=True)
        first, second = await worker.next(1), await worker.next(2)
        worker.reply(second, "B")
        worker.reply(first, "A")
        *chunks, done = records((await task).text)
        texts = ["".join(c["choices"][0]["text"] for c in chunks if c["choices"][0]["index"] == i) for i in (0, 1)]
        assert texts == ["oneA", "twoB"]
        assert done == "[DONE]"
        assert ["usage" in chunk for chunk in chunks].count(True) == 1


async def test_a_prefill_is_continued_and_repeated_only_on_request() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "I th"}]
    async with Harness() as server:
        worker = await server.attach()
        for number, (echo, text) in enumerate([(False, "ink"), (True, "I think")], 1):
            task = server.post(messages=messages, echo=echo)
            ask = await worker.next(number)
            assert isinstance(ask.prompt, Chat)
            assert ask.prompt.continue_final
            assert not ask.prompt.add_generation_prompt
            worker.reply(ask, "ink")
            assert (await task).json()["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_worker_refuses_before_it_accepts_is_a_plain_error(stream: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=stream)
        ask = await worker.next()
        fields = {"n_prompt_tokens": 9000, "n_ctx": 4096}
        worker.send(Failed(ask.id, "context_length_exceeded", "exceeds the available context size", fields))
        response = await task
        error = response.json()["error"]
        assert response.status_code == error["status"] == 400
        assert error["type"] == "exceed_context_size_error"
        assert error["n_prompt_tokens"] == 9000


async def test_an_error_in_the_stream_is_a_record_without_the_end_mark() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Delta(ask.id, "a"))
        worker.send(Failed(ask.id, "internal_error", "oops"))
        response = await task
        assert response.status_code == 200
        found = records(response.text)
        assert found[-1]["error"]["code"] == "internal_error"
        assert "[DONE]" not in found


async def test_text_routes() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/tokenize", content=["a", 5], with_pieces=True)
        ask = await worker.next(1)
        assert ask.pieces == ("a", 5)
        worker.send(Tokens(ask.id, [1, 5], [b"a", b"\xff"]))
        assert (await task).json() == {"tokens": [{"id": 1, "piece": "a"}, {"id": 5, "piece": [255]}]}
        task = server.post("/detokenize", tokens=[1, 5.0])
        ask = await worker.next(2)
        assert ask.tokens == (1, 5)
        worker.send(Rendered(ask.id, "a?"))
        assert (await task).json() == {"content": "a?"}
        task = server.post("/apply-template", **CHAT)
        ask = await worker.next(3)
        worker.send(Rendered(ask.id, "<hi>"))
        assert (await task).json() == {"prompt": "<hi>"}
