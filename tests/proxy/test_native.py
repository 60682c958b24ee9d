"""llama.cpp's own completion over real sockets: its objects, its streams, and the native object beside the others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from proxy.dialects import native_completion
from proxy.dialects.native_object import chosen
from proxy.errors import ApiError
from supervisor.config import LLAMA_DEFAULTS, Sampling
from tests.proxy.harness import FakeWorker, Harness, settings
from tests.proxy.test_edges import KEYS
from tests.proxy.test_generation import likely, records, shown
from worker.protocol import Accepted, Delta, Details, Finished, Progress, Started, Text, Timings

SAID = Sampling(temperature=0.5, seed=7, max_tokens=9, logit_bias=((3, -math.inf), ("a", 1.0))).over(LLAMA_DEFAULTS)
TIMINGS = Timings(3, 4, 10.0, 3, 20.0)


def begin(worker: FakeWorker, id: int, *, sibling: bool = False) -> None:
    worker.send(Accepted(id, 0, "") if sibling else Accepted(id, 7, "<s>Once"), Started(id, 3, 2))


def end(worker: FakeWorker, id: int, reason: str = "eos", word: str = "") -> None:
    worker.send(Finished(id, reason, word, TIMINGS, Details(SAID, 9, True)))


async def test_a_completion_has_exactly_its_fields() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/completion", prompt="Once", stop=["x"], n_keep=-1, return_tokens=True, n_probs=2)
        ask = await worker.next()
        assert (ask.prompt, ask.details, ask.return_tokens, ask.stream) == (Text(("Once",)), True, True, False)
        begin(worker, ask.id)
        worker.send(Delta(ask.id, "a\nb", 2, [likely(1, b"a", -0.5)], [5, 6]), Delta(ask.id, "", 0, None, [2]))
        end(worker, ask.id, "word", "x")
        found = (await task).json()
        given, timings = found.pop("generation_settings"), found.pop("timings")
        assert found == {
            "index": 0,
            "content": "a\nb",
            "tokens": [5, 6, 2],
            "id_slot": 2,
            "stop": True,
            "model": "m",
            "tokens_predicted": 3,
            "tokens_evaluated": 7,
            "prompt": "<s>Once",
            "has_new_line": True,
            "truncated": False,
            "stop_type": "word",
            "stopping_word": "x",
            "tokens_cached": 9,
            "completion_probabilities": [
                shown(1, "a", [97], -0.5)
                | {"top_logprobs": [shown(1, "a", [97], -0.5), shown(9, "\ufffd", [255], -3.4028235e38)]}
            ],
        }
        assert (timings["cache_n"], timings["predicted_n"]) == (3, 3)
        assert (given["temperature"], given["seed"], given["top_k"], given["n_predict"]) == (0.5, 7, 40, 9)
        assert (given["stop"], given["n_keep"], given["stream"]) == (["x"], -1, False)
        again = native_completion.parse(given | {"prompt": "x"}, "r").asks[0]
        assert again.sampling == SAID
        assert again.stop == ("x",)


@pytest.mark.parametrize(
    ("reason", "kind", "truncated"), [("eos", "eos", False), ("limit", "limit", False), ("context", "limit", True)]
)
async def test_why_it_ended(reason: str, kind: str, truncated: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/completions", prompt="Once")
        ask = await worker.next()
        begin(worker, ask.id)
        end(worker, ask.id, reason)
        found = (await task).json()
        assert (found["stop_type"], found["truncated"]) == (kind, truncated)


async def test_a_stream_has_parts_and_a_last_object_and_no_end_mark() -> None:
    async with Harness() as server:
        worker = await server.attach()
        body = {"prompt": "x", "stream": True, "return_progress": True, "timings_per_token": True, "n_probs": 2}
        task = server.post("/completion", **body)
        ask = await worker.next()
        assert ask.return_tokens
        begin(worker, ask.id)
        worker.send(Progress(ask.id, 7, 3, 7, 1.6), Delta(ask.id, "a", 2, [likely(1, b"a", -0.5)], [5, 6]))
        worker.send(Delta(ask.id, "", 0, None, [2]))
        end(worker, ask.id)
        response = await task
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        progress, *parts, last = records(response.text)
        assert progress["prompt_progress"] == {"total": 7, "cache": 3, "processed": 7, "time_ms": 2}
        head = {"index": 0, "stop": False, "id_slot": 2, "tokens_evaluated": 7}
        assert progress.items() >= (head | {"content": "", "tokens_predicted": 0}).items()
        assert all(part.items() >= (head | {"tokens_predicted": 2}).items() for part in parts)
        assert "".join(part["content"] for part in parts) == "a"
        assert [token for part in parts for token in part["tokens"]] == [5, 6, 2]
        assert parts[0]["timings"]["cache_n"] == 3
        assert [entry["id"] for part in parts for entry in part.get("completion_probabilities", [])] == [1]
        assert (last["stop"], last["content"], last["tokens"], last["tokens_predicted"]) == (True, "", [], 3)
        assert last["generation_settings"]["temperature"] == 0.5


@pytest.mark.parametrize("stream", [True, False])
async def test_several_prompts_and_choices_are_several_objects(stream: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/completion", prompt=["p", [1, 2]], n=2, stream=stream)
        asks = [await worker.next(number) for number in (1, 2)]
        assert [ask.prompt for ask in asks] == [Text(("p",)), Text((1, 2))]
        for ask in asks:
            for place, id in enumerate((ask.id, *ask.siblings)):
                begin(worker, id, sibling=place == 1)
                worker.send(Delta(id, f"text {id}"))
                end(worker, id)
        response = await task
        found = [each for each in records(response.text) if each["stop"]] if stream else response.json()
        assert [each["index"] for each in found] == [0, 1, 2, 3]
        assert all((each["tokens_evaluated"], each["prompt"]) == (7, "<s>Once") for each in found)
        if not stream:
            assert len({each["content"] for each in found}) == 4


async def test_only_the_fields_that_are_asked_for() -> None:
    async with Harness() as server:
        worker = await server.attach()
        fields = ["content", "generation_settings/temperature", "nonsense", "content/deeper", "timings/cache_n"]
        task = server.post("/completion", prompt="x", response_fields=fields)
        ask = await worker.next()
        begin(worker, ask.id)
        end(worker, ask.id)
        found = (await task).json()
        assert found == {"content": "", "generation_settings/temperature": 0.5, "timings/cache_n": 3}
    assert chosen({"a": 1}, []) == {"a": 1}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("usage", [True, False])
async def test_the_native_object_stands_beside_an_answer_for_admins(path: str, stream: bool, usage: bool) -> None:
    options = {"include_usage": usage}
    body: dict[str, Any] = {"model": "ab", "stream": stream, "stream_options": options, "verbose": True}
    async with Harness(settings("ab", keys=KEYS)) as server:
        worker = await server.attach("ab")
        found = []
        for number, who in enumerate(("root", "alice"), 1):
            server.client.headers["x-api-key"] = who
            task = server.post(path, **body | ({} if "chat" in path else {"prompt": "x"}))
            ask = await worker.next(number)
            begin(worker, ask.id)
            worker.send(Delta(ask.id, "a"))
            end(worker, ask.id)
            response = await task
            found.append(records(response.text)[-2] if stream else response.json())
        native = found[0]["__verbose"]
        assert (native["prompt"], native["tokens_cached"], native["stop"]) == ("<s>Once", 9, True)
        assert native["content"] == ("" if stream else "a")
        assert "__verbose" not in found[1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "n_indent": -1}, "n_indent"),
        ({"prompt": "x", "t_max_predict_ms": -2}, "t_max_predict_ms"),
        ({"prompt": "x", "id_slot": -2}, "id_slot"),
        ({"prompt": "x", "n_keep": -2}, "n_keep"),
        ({"prompt": "x", "n_discard": -1}, "n_discard"),
        ({"prompt": "x", "n_cache_reuse": -1}, "n_cache_reuse"),
        ({"prompt": "x", "response_fields": "content"}, "response_fields"),
        ({"prompt": "x", "response_fields": ["x"] * 65}, "response_fields"),
        ({"prompt": {"prompt_string": 5}}, "prompt.prompt_string"),
    ],
)
def test_an_error_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        native_completion.parse(body, "r")
    assert (caught.value.status, caught.value.param) == (400, param)


def test_limits_reach_the_worker_and_hints_do_no_harm() -> None:
    hints = {"n_keep": 5, "n_discard": 1, "n_cache_reuse": 256, "id_slot": 3, "verbose": True, "n_predict": 0}
    ask = native_completion.parse({"prompt": "x", "t_max_predict_ms": 50, "n_indent": 2} | hints, "r").asks[0]
    assert (ask.t_max_predict_ms, ask.n_indent, ask.sampling.max_tokens) == (50, 2, 0)


def test_a_prompt_may_stand_in_an_object() -> None:
    both = native_completion.parse({"prompt": [{"prompt_string": "x", "multimodal_data": []}, "y"]}, "r").asks
    assert [ask.prompt for ask in both] == [Text(("x",)), Text(("y",))]
    image = {"prompt_string": "x", "multimodal_data": ["aGk="]}
    with pytest.raises(ApiError) as caught:
        native_completion.parse({"prompt": image}, "r")
    assert caught.value.code == "unsupported_feature"


def test_a_grammar_may_wait_for_a_word() -> None:
    body = {"prompt": "x", "grammar": 'root ::= "a"', "grammar_lazy": True, "preserved_tokens": ["<call>"]}
    (ask,) = native_completion.parse({**body, "grammar_triggers": [{"type": "word", "value": "<call>"}]}, "r").asks
    assert (ask.grammar_triggers, ask.preserved_tokens) == (("<call>",), ("<call>",))
