"""Anthropic messages: what a body means, what its answer looks like, and errors in its own shape."""

from __future__ import annotations

import json
from typing import Any

import jiter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import anthropic
from proxy.dialects.anthropic_reply import MessageReply
from proxy.dialects.fields import Fields
from proxy.errors import ApiError
from supervisor.config import Config, Key, Server
from tests.proxy.harness import Harness, settings
from tests.proxy.synthetic import Row, collected, events, named, rows, streamed
from worker.protocol import (
    Accepted,
    CallDelta,
    CallStart,
    Counted,
    Delta,
    Failed,
    Finished,
    Reasoning,
    Started,
    Timings,
)

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "description": "does", "input_schema": {"type": "object", "properties": {"a": {}}}}


def ask(**body: Any) -> Any:
    return anthropic.parse({"messages": [USER]} | body, "r").asks[0]


def messages(*found: Any, **body: Any) -> list[dict[str, Any]]:
    return list(ask(messages=list(found), **body).prompt.messages)


def refusal(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        anthropic.parse({"messages": [USER]} | body, "r")
    return caught.value


def reply() -> MessageReply:
    return MessageReply("r", "m", Fields())


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_conversation_with_every_kind_of_block() -> None:
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "42"}]}
    found = messages(
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Sure"},
                call,
            ],
        },
        {"role": "user", "content": [{"type": "text", "text": "and?"}, result]},
        system=[{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}],
    )
    assert found == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": "Sure",
            "reasoning_content": "Hm",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c1"},  # before what the user says beside it
        {"role": "user", "content": "and?"},
    ]


def test_a_changing_hash_in_the_system_prompt_is_made_constant() -> None:
    head = "x-anthropic-billing-header: cc_version=2.0; cc_entrypoint=cli; cch={};"
    first, second = (messages(USER, system=[{"type": "text", "text": head.format(cch)}])[0] for cch in ("a1b2", "c3d4"))
    assert first == second
    assert "cc_version=2.0" in first["content"]
    assert messages(USER, system="cch=a1b2 stays")[0]["content"] == "cch=a1b2 stays"


def test_generation_fields() -> None:
    found = ask(max_tokens=9, temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["X", ""], stream=True, min_p=0.1)
    sampling = found.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (9, 0.5, 0.9, 3)
    assert (sampling.min_p, found.stop, found.stream) == (0.1, ("X",), True)
    assert ask().sampling.max_tokens == 4096
    assert ask(n=3).siblings == ()
    assert ask(max_tokens=None, system=None, tools=None, thinking=None).sampling.max_tokens == 4096


def test_tools_and_their_choice() -> None:
    hosted = {"type": "web_search_20250305", "name": "web_search"}
    found = ask(tools=[hosted, TOOL, {"name": "g"}], tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert found.prompt.tools == [
        {"type": "function", "function": {"name": "f", "description": "does", "parameters": TOOL["input_schema"]}},
        {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}},
    ]
    assert found.parse_tools
    assert found.parallel_tool_calls is False
    assert not ask(tools=[TOOL], tool_choice={"type": "none"}).parse_tools
    assert refusal(tools=[TOOL], tool_choice={"type": "tool", "name": "h"}).param == "tool_choice.function.name"


@pytest.mark.parametrize(
    ("thinking", "kwargs"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, {"enable_thinking": True}),
        ({"type": "adaptive"}, {"enable_thinking": True}),
        ({"type": "disabled"}, {"enable_thinking": False}),
        (None, {}),
    ],
)
def test_thinking_is_the_templates(thinking: Any, kwargs: dict[str, Any]) -> None:
    assert ask(thinking=thinking).prompt.template_kwargs == kwargs


def test_a_schema_for_the_output() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = ask(output_config={"format": {"type": "json_schema", "schema": schema}, "effort": "low"})
    assert json.loads(found.json_schema) == schema
    assert found.prompt.template_kwargs == {"reasoning_effort": "low"}


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "x"}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": None}, "missing_field", "messages"),
        ({"messages": [{"role": "tool", "content": ""}]}, "invalid_value", "messages[0].role"),
        ({"messages": [USER | {"content": 5}]}, "invalid_value", "messages[0].content"),
        ({"messages": [USER | {"content": [5]}]}, "invalid_value", "messages[0].content[0]"),
        ({"messages": [USER | {"content": [{"type": "text"}]}]}, "invalid_value", "messages[0].content[0].text"),
        ({"messages": [USER | {"content": [{"type": "x"}]}]}, "invalid_value", "messages[0].content[0].type"),
        (
            {"messages": [USER | {"content": [{"type": "document"}]}]},
            "unsupported_feature",
            "messages[0].content[0].type",
        ),
        ({"messages": [USER, USER | {"content": [IMAGE]}], "system": "s"}, "unsupported_feature", "messages[1]"),
        ({"system": [IMAGE]}, "invalid_value", "system[0].type"),
        ({"tools": [{"description": "x"}]}, "invalid_value", "tools[0].name"),
        ({"max_tokens": "5"}, "invalid_value", "max_tokens"),
        ({"stop_sequences": ["x"] * 65}, "invalid_value", "stop_sequences"),
        ({"thinking": {"type": "some"}}, "invalid_value", "thinking.type"),
        ({"chat_template_kwargs": [1], "thinking": {"type": "adaptive"}}, "invalid_value", "chat_template_kwargs"),
        ({"tool_choice": {"type": "tool"}}, "invalid_value", "tool_choice.name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(body: dict[str, Any], code: str, param: str) -> None:
    error = refusal(**body)
    assert (error.code, error.param) == (code, param)


def test_a_refusal_after_the_translation_names_the_clients_place() -> None:
    image = {"role": "user", "content": [RESULT | {"content": [IMAGE]}, RESULT]}
    error = refusal(messages=[USER, image, USER], system="s")  # the third of six once translated
    assert (error.code, error.param) == ("unsupported_feature", "messages[1]")


# -- answers ----------------------------------------------------------------------------------------------------------

SAID: Row = [("reasoning", "Hm."), ("text", "Sure."), ("call", ("c1", "f", '{"a": 1}')), ("call", ("c2", "g", "{}"))]
CONTENT = [
    {"type": "thinking", "thinking": "Hm.", "signature": ""},
    {"type": "text", "text": "Sure."},
    {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
]
USAGE = {"input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 9}


@given(events(SAID, whole=True))
def test_a_message_has_exactly_its_fields(found: Any) -> None:
    message = collected(reply(), found)
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message", "role": "assistant", "model": "m", "content": CONTENT,
        "stop_reason": "tool_use", "stop_sequence": None, "usage": USAGE,
    }  # fmt: skip


@given(events(SAID, whole=True))
def test_events_come_in_the_documented_order(found: Any) -> None:
    data = named(streamed(reply(), found, []))
    assert all(name == body["type"] for name, body in data)
    start, *blocks, delta, stop = data
    assert start[1]["message"]["usage"] == USAGE | {"output_tokens": 0}
    assert start[1]["message"]["content"] == []
    shape = [(name, body["index"]) for name, body in blocks if name != "content_block_delta"]
    assert shape == [(f"content_block_{what}", index) for index in range(4) for what in ("start", "stop")]
    assert [body["delta"]["type"] for name, body in blocks if name == "content_block_delta"] == [
        "thinking_delta", "signature_delta", "text_delta", "input_json_delta", "input_json_delta",
    ]  # fmt: skip
    assert delta[1]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert delta[1]["usage"] == USAGE
    assert stop == ("message_stop", {"type": "message_stop"})


def put_together(body: str) -> dict[str, Any]:
    """As Anthropic's package does it."""
    message: dict[str, Any] = {}
    buffers: dict[int, str] = {}
    for name, data in named(body):
        match name:
            case "message_start":
                message = data["message"]
            case "content_block_start":
                assert data["index"] == len(message["content"])
                message["content"].append(data["content_block"])
            case "content_block_delta":
                block, delta = message["content"][data["index"]], data["delta"]
                if delta["type"] == "input_json_delta":
                    buffers[data["index"]] = buffers.get(data["index"], "") + delta["partial_json"]
                    block["input"] = jiter.from_json(buffers[data["index"]].encode(), partial_mode=True)
                else:
                    field = delta["type"].removesuffix("_delta")
                    block[field] += delta[field]
            case "message_delta":
                message |= data["delta"]
                message["usage"] |= data["usage"]
    return message


@given(st.data(), rows(), st.sampled_from(("eos", "word", "limit")), st.lists(st.integers(0, 5)))
def test_a_stream_put_together_is_the_unstreamed_answer(
    data: st.DataObject, row: Row, reason: str, sizes: list[int]
) -> None:
    if reason == "limit" and row and row[-1][0] == "call":  # a call that is cut off
        id, name, arguments = row[-1][1]
        row = [*row[:-1], ("call", (id, name, arguments[: data.draw(st.integers(1, len(arguments)))]))]
    one = put_together(streamed(reply(), data.draw(events(row, reason)), sizes))
    other = collected(reply(), data.draw(events(row, reason, whole=True)))
    assert one | {"id": ""} == other | {"id": ""}


@pytest.mark.parametrize(
    ("row", "reason", "meant"),
    [
        ([("text", "a")], "eos", ("end_turn", None)),
        ([("text", "a")], "word", ("stop_sequence", "STOP")),
        ([("text", "a")], "limit", ("max_tokens", None)),
        ([("text", "a")], "context", ("max_tokens", None)),
        ([("call", ("c", "f", "{}"))], "eos", ("tool_use", None)),
        ([("call", ("c", "f", "{}"))], "limit", ("max_tokens", None)),
    ],
)
def test_why_it_stopped(row: Row, reason: str, meant: tuple[str, Any]) -> None:
    found = [Accepted(1, 7), Started(1, 3)]
    for kind, value in row:
        found += [Delta(1, value)] if kind == "text" else [CallStart(1, 0, *value[:2]), CallDelta(1, 0, value[2])]
    message = collected(reply(), [*found, Finished(1, reason, "STOP" if reason == "word" else "", Timings())])
    assert (message["stop_reason"], message["stop_sequence"]) == meant


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/messages", "/messages"])
async def test_a_streamed_message(path: str) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(path, messages=[USER], stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Reasoning(ask.id, "Hm"))
        worker.send(Delta(ask.id, "ok"), Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 2, 1.0)))
        response = await task
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert [block["type"] for block in put_together(response.text)["content"]] == ["thinking", "text"]
        assert put_together(response.text)["model"] == "m"


async def test_tokens_are_counted_by_the_model() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/messages/count_tokens", messages=[USER], system="s", tools=[TOOL])
        ask = await worker.next()
        assert [message["role"] for message in ask.chat.messages] == ["system", "user"]
        assert len(ask.chat.tools) == 1
        worker.send(Counted(ask.id, 42))
        assert (await task).json() == {"input_tokens": 42}


@pytest.mark.parametrize(
    ("body", "status", "kind", "code"),
    [
        ({"messages": []}, 400, "invalid_request_error", "invalid_value"),
        ({"model": "none"}, 404, "not_found_error", "model_not_found"),
        ({"messages": [USER | {"content": [IMAGE]}]}, 501, "api_error", "unsupported_feature"),
    ],
)
async def test_errors_have_anthropics_shape(body: dict[str, Any], status: int, kind: str, code: str) -> None:
    async with Harness() as server:
        response = await server.post("/v1/messages", **({"messages": [USER]} | body))
        found = response.json()
        assert response.status_code == status
        assert set(found) == {"type", "error", "request_id"}
        assert (found["type"], found["error"]["type"], found["error"]["code"]) == ("error", kind, code)
        assert found["request_id"] == response.headers["x-request-id"]


async def test_errors_before_routing_have_it_too() -> None:
    config = Config(file="test", models=settings().models, keys=(Key(name="k", sha256="0" * 64),))
    async with Harness(config) as server:
        found = (await server.post("/v1/messages", messages=[USER])).json()
        assert found["error"]["type"] == "authentication_error"
    async with Harness(settings(server=Server(max_body=10))) as server:
        found = (await server.post("/v1/messages", messages=[USER])).json()
        assert found["error"]["type"] == "request_too_large"
        found = (await server.client.get("/v1/messages")).json()
        assert (found["type"], found["error"]["code"]) == ("error", "method_not_allowed")


async def test_an_error_inside_the_stream_is_its_last_event() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/messages", messages=[USER], stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a"))
        worker.send(Failed(ask.id, "internal_error", "broken"))
        response = await task
        (name, data) = named(response.text)[-1]
        assert name == "error"
        assert data["error"]["type"] == "api_error"
        assert data["request_id"] == response.headers["x-request-id"]
        assert "message_stop" not in response.text


async def test_silence_is_filled_with_pings() -> None:
    body = {"messages": [USER], "stream": True}
    async with (
        Harness(settings(server=Server(sse_ping_interval=0.02, stream_hold=0.02))) as server,
        server.client.stream("POST", "/v1/messages", json=body) as response,
    ):
        lines = response.aiter_lines()
        assert [await anext(lines), await anext(lines)] == ["event: ping", 'data: {"type":"ping"}']
