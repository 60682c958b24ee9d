"""Demanded calls, schemas and the end of reasoning through the whole tree, with SmolLM2 and a template for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.e2e.server import SMOLLM2, Server, until
from tests.worker.schemas import PERSON
from tests.worker.test_demands import ASK, CLOCK, SCHEMAS, TEMPLATE, TOOLS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("demands")
    template = folder / "tools.jinja"
    template.write_text(TEMPLATE)
    toml = SMOLLM2.format(name="m") + f'preload = true\nn_ctx = 2048\nparallel = 2\nchat_template = "{template}"\n'
    with Server(folder, toml) as running:
        until(lambda: running.state("m") == "ready")
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as running:
        yield running


def asked(client: openai.OpenAI, *, thinking: bool = False, extra: dict[str, Any] | None = None, **more: Any) -> Any:
    body = {"chat_template_kwargs": {"thinking": thinking}, **(extra or {})}
    return client.chat.completions.create(model="m", messages=ASK, temperature=0, extra_body=body, **more)  # type: ignore[call-overload]


def test_a_demanded_call_streams_and_fits(client: openai.OpenAI) -> None:
    names, text, reason = [], "", ""
    for chunk in asked(client, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, stream=True):
        (choice,) = chunk.choices
        for call in choice.delta.tool_calls or ():
            names += [call.function.name] if call.function.name else []
            text += call.function.arguments or ""
        reason = choice.finish_reason or reason
    (name,) = names
    jsonschema.validate(json.loads(text), SCHEMAS[name])
    assert reason == "tool_calls"


def test_the_named_function_is_called_after_a_budget_of_reasoning(client: openai.OpenAI) -> None:
    choice = {"type": "function", "function": {"name": "clock"}}
    found = asked(client, thinking=True, extra={"reasoning_budget_tokens": 5}, tools=TOOLS, tool_choice=choice)
    message = found.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "clock"
    jsonschema.validate(json.loads(call.function.arguments), CLOCK)
    assert message.reasoning_content
    assert 5 <= found.usage.completion_tokens_details.reasoning_tokens < found.usage.completion_tokens


def test_a_schema_holds_for_the_answer_alone(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}
    found = asked(client, thinking=True, extra={"thinking_budget_tokens": 9}, response_format=form, max_tokens=1000)
    jsonschema.validate(json.loads(found.choices[0].message.content), PERSON)
    assert found.choices[0].message.reasoning_content


def test_a_client_ends_the_reasoning_of_its_stream(server: Server) -> None:
    """Left to itself this one, which may not end, thinks until its context is full, and never answers."""
    body = {"model": "m", "messages": ASK, "temperature": 0, "stream": True, "reasoning_control": True,
            "max_tokens": -1, "ignore_eos": True, "chat_template_kwargs": {"thinking": True}}  # fmt: skip
    content = said = ""
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if content := chunk["choices"][0]["delta"].get("content") or "":
                break
            if not said and chunk["choices"][0]["delta"].get("reasoning_content"):
                said = chunk["id"]
                order = {"id": said, "action": "reasoning_end"}
                answer = server.http.post("/v1/chat/completions/control", json=order).json()
                assert answer == {"success": True}
    assert said
    assert content


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            400,
            "invalid_grammar",
        ),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "no"}}}, 400, "invalid_value"),
        ({"grammar": 'root ::= "a"{5,2}'}, 400, "invalid_grammar"),
    ],
)
def test_what_cannot_be_demanded_is_refused(server: Server, body: dict[str, Any], status: int, code: str) -> None:
    response = server.http.post("/v1/chat/completions", json={"model": "m", "messages": ASK, **body})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
