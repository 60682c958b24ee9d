"""Ollama's routes: what a body means, lines and objects, models, and loading without a prompt."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import ollama
from proxy.dialects.fields import Fields
from proxy.dialects.ollama_reply import ChatShape, GenerateShape, OllamaReply
from proxy.errors import ApiError
from proxy.truncation import without_oldest
from supervisor.config import Config, Key, Server
from supervisor.control import Answer, Facts, KeepAlive, ModelCommand, State, Want
from tests.proxy.harness import Harness, loaded, settings
from tests.proxy.synthetic import Row, collected, events, rows, streamed
from worker.protocol import Accepted, Delta, Failed, Finished, Probability, Started, Text, Timings, Vector

USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def parsed(**body: Any) -> Any:
    return ollama.chat({"messages": [USER]} | body, "r")


def ask(**body: Any) -> Any:
    return parsed(**body).plan.asks[0]


def refusal(route: Any = ollama.chat, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        route({"messages": [USER], "prompt": "x"} | body, "r")
    return caught.value


def lines(body: str) -> list[Any]:
    assert body.endswith("\n")
    return [json.loads(line) for line in body.splitlines()]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_conversation() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    found = ask(
        messages=[
            {"role": "system", "content": "Be brief"},
            {"role": "assistant", "content": "", "thinking": "Hm", "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_name": "f"},
        ],
        tools=TOOLS,
    )
    assert found.prompt.messages == [
        {"role": "system", "content": "Be brief"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Hm",
            "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "content": "42", "name": "f"},
    ]
    assert found.prompt.tools == TOOLS
    assert found.parse_tools


def test_streams_unless_told_otherwise() -> None:
    assert ask().stream
    assert not ask(stream=False).stream
    assert ask(stream=None).stream


def test_options() -> None:
    options = {"num_predict": 9, "temperature": 0, "top_k": 3, "stop": ["X"], "seed": 5, "repeat_penalty": 1.1}
    found = ask(options=options | {"num_ctx": 5, "num_gpu": "all", "low_vram": True, "min_p": None})
    sampling = found.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k, sampling.seed) == (9, 0.0, 3, 5)
    assert (sampling.repeat_penalty, found.stop) == (1.1, ("X",))
    assert ask(options={"num_predict": -2}).sampling.max_tokens == -1
    assert ask(options=None).sampling.max_tokens is None


@pytest.mark.parametrize(
    ("think", "kwargs"),
    [
        (True, {"enable_thinking": True}),
        (False, {"enable_thinking": False}),
        ("high", {"reasoning_effort": "high"}),
        (None, {}),
    ],
)
def test_thinking(think: Any, kwargs: dict[str, Any]) -> None:
    assert ask(think=think).prompt.template_kwargs == kwargs


def test_formats() -> None:
    assert ask(format="json").json_schema == "{}"
    assert json.loads(ask(format={"type": "object"}).json_schema) == {"type": "object"}
    assert ask(format="").json_schema == ""


def test_a_prompt_with_and_without_the_template() -> None:
    found = ollama.generate({"prompt": "hi", "system": "s"}, "r").plan.asks[0]  # type: ignore[union-attr]
    assert found.prompt.messages == [{"role": "system", "content": "s"}, USER]  # type: ignore[union-attr]
    body = {"prompt": "hi", "raw": True, "logprobs": True, "top_logprobs": 2}
    found = ollama.generate(body, "r").plan.asks[0]  # type: ignore[union-attr]
    assert found.prompt == Text(("hi",))
    assert (found.stream, found.n_probs) == (True, 2)


@pytest.mark.parametrize(
    ("route", "body", "code", "param"),
    [
        (ollama.chat, {"messages": [{"content": "x"}]}, "missing_field", "messages[0].role"),
        (ollama.chat, {"messages": [USER | {"content": 5}]}, "invalid_value", "messages[0].content"),
        (ollama.chat, {"messages": [USER, USER | {"images": ["AAAA"]}]}, "unsupported_feature", "messages[1]"),
        (ollama.chat, {"options": {"temperature": "hot"}}, "invalid_value", "options.temperature"),
        (ollama.chat, {"options": {"num_predict": -3}}, "invalid_value", "options.n_predict"),
        (ollama.chat, {"options": 5}, "invalid_value", "options"),
        (ollama.chat, {"format": "yaml"}, "invalid_value", "format"),
        (ollama.chat, {"think": "a bit"}, "invalid_value", "think"),
        (ollama.chat, {"keep_alive": "soon"}, "invalid_value", "keep_alive"),
        (ollama.generate, {"template": "x"}, "unsupported_feature", "template"),
        (ollama.generate, {"context": [1]}, "unsupported_feature", "context"),
        (ollama.generate, {"suffix": "x"}, "unsupported_feature", "suffix"),
        (ollama.generate, {"images": ["AAAA"]}, "unsupported_feature", "prompt"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(route: Any, body: dict[str, Any], code: str, param: str) -> None:
    error = refusal(route, **body)
    assert (error.code, error.param) == (code, param)


# -- answers ----------------------------------------------------------------------------------------------------------

FIGURES = {
    "done": True, "done_reason": "stop", "load_duration": 5_000_000, "prompt_eval_count": 7,
    "prompt_eval_duration": 10_000_000, "eval_count": 9, "eval_duration": 20_000_000,
}  # fmt: skip


def reply(shape: Any = None) -> OllamaReply:
    found = OllamaReply(shape or ChatShape(), "m", Fields())
    found.load_ms = 5.0
    return found


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    assert found.pop("created_at").endswith("Z")
    if found["done"]:
        assert found.pop("total_duration") > 0
    return found


@given(events([("reasoning", "Hm."), ("text", "Sure."), ("call", ("c1", "f", '{"a": 1}'))], whole=True))
def test_an_answer_has_exactly_its_fields(found: Any) -> None:
    message = {
        "role": "assistant",
        "content": "Sure.",
        "thinking": "Hm.",
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
    }
    assert without_times(collected(reply(), found)) == {"model": "m:latest", "message": message} | FIGURES
    data = [without_times(line) for line in lines(streamed(reply(), found, []))]
    start = {"model": "m:latest", "done": False}
    assert data == [
        start | {"message": {"role": "assistant", "content": "", "thinking": "Hm."}},
        start | {"message": {"role": "assistant", "content": "Sure."}},
        start | {"message": {"role": "assistant", "content": "", "tool_calls": message["tool_calls"]}},
        {"model": "m:latest", "message": {"role": "assistant", "content": ""}} | FIGURES,
    ]
    assert without_times(collected(reply(GenerateShape()), found))["response"] == "Sure."


def put_together(found: list[Any]) -> dict[str, Any]:
    """As a client does it."""
    whole: dict[str, Any] = found[-1] | {"message": {"role": "assistant", "content": ""}}
    message = whole["message"]
    for line in found:
        part = line["message"]
        message["content"] += part["content"]
        if "thinking" in part:
            message["thinking"] = message.get("thinking", "") + part["thinking"]
        if "tool_calls" in part:
            message["tool_calls"] = message.get("tool_calls", []) + part["tool_calls"]
    return whole


@given(st.data(), rows(), st.sampled_from(("eos", "word", "limit")), st.lists(st.integers(0, 5)))
def test_a_stream_put_together_is_the_unstreamed_answer(
    data: st.DataObject, row: Row, reason: str, sizes: list[int]
) -> None:
    one = put_together(lines(streamed(reply(), data.draw(events(row, reason)), sizes)))
    other = collected(reply(), data.draw(events(row, reason, whole=True)))
    assert without_times(one) == without_times(other)


@pytest.mark.parametrize("stream", [True, False])
def test_probabilities_come_with_the_text(stream: bool) -> None:
    probs = [Probability(5, b"a", -0.5, []), Probability(6, b"", -math.inf, [])]
    found = [Accepted(1, 7), Started(1, 0), Delta(1, "a", 1, probs[:1]), Delta(1, "", 1, probs[1:])]
    found.append(Finished(1, "eos", "", Timings()))
    data = lines(streamed(reply(), found, [1, 1, 1])) if stream else [collected(reply(), found)]
    tokens = [entry for line in data for entry in line.get("logprobs", [])]
    assert [(entry["token"], entry["logprob"]) for entry in tokens] == [("a", -0.5), ("", -3.4028235e38)]


# -- over HTTP --------------------------------------------------------------------------------------------------------


async def test_lines_and_the_name_with_a_tag() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/api/chat", model="m:latest", messages=[USER])
        worker.reply(await worker.next(), "a", "b")
        response = await task
        assert response.headers["content-type"] == "application/x-ndjson"
        assert put_together(lines(response.text))["message"]["content"] == "ab"
        task = server.post("/api/generate", model="m-alias:latest", prompt="x", stream=False)
        worker.reply(await worker.next(2), "a", "b", reason="limit")
        found = (await task).json()
        assert (found["response"], found["done_reason"], found["model"]) == ("ab", "length", "m:latest")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_prompt_loads_the_model_and_nothing_else(stream: bool) -> None:
    async with Harness() as server:
        task = server.post("/api/generate", keep_alive="5m", stream=stream)
        await server.heard(Want)
        worker = await server.attach()
        found = (await task).json()
        assert without_times(found | {"total_duration": 1}) == {
            "model": "m:latest", "response": "", "done": True, "done_reason": "load",
        }  # fmt: skip
        assert worker.requests == []
        assert (await server.heard(KeepAlive)).seconds == 300.0


async def test_an_empty_prompt_with_no_time_to_live_unloads() -> None:
    async with Harness() as server:
        await server.attach()
        task = server.post("/api/chat", messages=[], keep_alive=0, stream=False)
        command = await server.heard(ModelCommand)
        assert (command.verb, command.model) == ("unload", "m")
        server.tell(Answer(command.ticket))
        assert (await task).json()["done_reason"] == "unload"


async def test_errors_are_texts() -> None:
    async with Harness() as server:
        response = await server.post("/api/chat", model="none:latest", messages=[USER])
        assert (response.status_code, response.json()) == (404, {"error": "model 'none:latest' not found"})
        response = await server.client.get("/api/chat")
        assert (response.status_code, list(response.json())) == (405, ["error"])
    config = Config(file="test", models=settings().models, keys=(Key(name="k", sha256="0" * 64),))
    async with Harness(config) as server:
        response = await server.client.get("/api/tags")
        assert (response.status_code, list(response.json())) == (401, ["error"])


async def test_a_full_queue_is_503_in_the_words_that_clients_know() -> None:
    config = settings()
    async with Harness(config) as server:
        server.proxy.services.result().models.gates["m"].acquire = _full  # type: ignore[method-assign]
        response = await server.post("/api/chat", messages=[USER])
        assert response.status_code == 503
        assert response.json()["error"].startswith("server busy, please try again.  maximum pending requests exceeded")


async def _full(wait: Any) -> Any:
    raise ApiError("queue_full", "full")


async def test_an_error_inside_the_stream_is_its_last_line() -> None:
    async with Harness(settings(server=Server(sse_ping_interval=0.01, stream_hold=0.01))) as server:
        worker = await server.attach()
        task = server.post("/api/chat", messages=[USER])
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a"))
        worker.send(Failed(ask.id, "internal_error", "broken"))
        *_, last = lines((await task).text)  # every line is JSON: nothing is sent into silence
        assert last == {"error": "broken"}


FACTS = Facts(
    architecture="llama", description="llama 1B Q4_K - Medium", n_ctx=512, n_ctx_train=8192, n_params=1_240_000_000,
    chat_template="{% if enable_thinking %}", template_caps={"supports_tools": True}, on_cpu=False,
)  # fmt: skip


async def test_models_are_shown_and_none_is_loaded() -> None:
    async with Harness(settings("m", "n")) as server:
        assert (await server.client.get("/api/version")).json()["version"] == "0.13.0"
        tags = (await server.client.get("/api/tags")).json()["models"]
        assert [entry["name"] for entry in tags] == ["m:latest", "n:latest"]
        assert len({entry["digest"] for entry in tags}) == 2
        assert (await server.client.get("/api/ps")).json() == {"models": []}
        await server.change("n", facts=FACTS, idle_timeout=300.0)
        await server.attach("n")
        await server.change("n", facts=FACTS, idle_timeout=300.0)
        await server.attach("m")
        stays, goes = (await server.client.get("/api/ps")).json()["models"]
        assert (stays["name"], goes["name"], goes["context_length"]) == ("m:latest", "n:latest", 512)
        assert int(stays["expires_at"][:4]) > 2300
        shown = (await server.post("/api/show", model="n")).json()
        assert shown["capabilities"] == ["completion", "tools", "thinking"]
        assert shown["details"] == {
            "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "1.2B",
            "quantization_level": "Q4_K",
        }  # fmt: skip
        assert shown["model_info"]["llama.context_length"] == 8192
        assert (await server.post("/api/show", name="n:latest")).json() == shown
        assert server.count(Want) == 0


async def test_thinking_is_refused_where_the_template_knows_none_of_it() -> None:
    async with Harness() as server:
        worker = await server.attach()
        response = await server.post("/api/chat", messages=[USER], think=True)
        assert (response.status_code, response.json()) == (400, {"error": '"m" does not support thinking'})
        task = server.post("/api/chat", messages=[USER], think=False)
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


# -- truncation -------------------------------------------------------------------------------------------------------


def said(role: str, content: str = "x" * 100) -> dict[str, Any]:
    return {"role": role, "content": content}


def roles(messages: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]


def test_the_oldest_goes_and_system_and_the_last_stay() -> None:
    history = [said("system"), *(said(role) for _ in range(4) for role in ("user", "assistant")), said("user", "last")]
    shorter = without_oldest(history, 0.5)
    assert shorter[0] == history[0]
    assert shorter[-1] == history[-1]
    assert shorter[1:] == history[len(history) - len(shorter) + 1 :]
    assert 4 <= len(shorter) <= 6
    assert len(without_oldest(history, 1.0)) == len(history) - 1


def test_results_go_with_their_call() -> None:
    history = [said("user"), said("assistant"), said("tool"), said("tool"), said("user")]
    assert roles(without_oldest(history, 0.7)) == ["user"]
    history = [said("user"), said("assistant"), said("tool")]
    assert roles(without_oldest(history, 0.1)) == ["assistant", "tool"]
    assert without_oldest(history[1:], 0.1) == history[1:]


@pytest.mark.parametrize("truncate", [True, False])
async def test_a_conversation_that_is_too_long_is_shortened_unless_told_otherwise(truncate: bool) -> None:
    history = [said("user", f"{number}" * 50) for number in range(6)]
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/api/chat", messages=history, truncate=truncate, stream=False)
        ask = await worker.next()
        fields = {"n_prompt_tokens": 600, "n_ctx": 300}
        worker.send(Failed(ask.id, "context_length_exceeded", "exceeds the available context size", fields))
        if not truncate:
            assert (await task).status_code == 400
            return
        again = await worker.next(2)
        assert len(again.prompt.messages) in (2, 3)
        assert again.prompt.messages[-1] == history[-1]
        worker.reply(again, "ok")
        assert (await task).json()["message"]["content"] == "ok"


async def test_what_cannot_be_shortened_is_refused() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/api/chat", messages=[USER], stream=False)
        ask = await worker.next()
        worker.send(Failed(ask.id, "context_length_exceeded", "exceeds", {"n_prompt_tokens": 600, "n_ctx": 300}))
        assert (await task).status_code == 400
        assert loaded().state is State.READY


# -- vectors ----------------------------------------------------------------------------------------------------------


def vectors(id: int, *found: list[float]) -> list[Any]:
    data = [
        Vector(id, index, len(numbers), struct.pack(f"<{len(numbers)}f", *numbers))
        for index, numbers in enumerate(found)
    ]
    return [Accepted(id, 5), Started(id, 0), *data, Finished(id, "eos", "", Timings())]


async def test_embeddings_in_both_forms() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/api/embed", model="m:latest", input=["a", "b"], keep_alive="5m")
        ask = await worker.next()
        assert (ask.inputs, ask.truncate) == ((("a",), ("b",)), True)
        worker.send(*vectors(ask.id, [0.5, 1.0], [1.5, 2.0]))
        found = (await task).json()
        assert found.pop("total_duration") > 0
        assert found == {
            "model": "m:latest", "load_duration": 0, "prompt_eval_count": 5, "embeddings": [[0.5, 1.0], [1.5, 2.0]],
        }  # fmt: skip
        assert (await server.heard(KeepAlive)).seconds == 300.0
        task = server.post("/api/embeddings", prompt="a")
        ask = await worker.next(2)
        worker.send(*vectors(ask.id, [0.5, 1.0]))
        assert (await task).json() == {"embedding": [0.5, 1.0]}


async def test_without_input_an_embedding_only_loads() -> None:
    async with Harness() as server:
        task = server.post("/api/embed", input=[])
        await server.heard(Want)
        worker = await server.attach()
        assert (await task).json() == {"model": "m:latest", "embeddings": []}
        assert (await server.post("/api/embeddings")).json() == {"embedding": []}
        assert worker.requests == []
        response = await server.post("/api/embed")
        assert (response.status_code, list(response.json())) == (400, ["error"])
