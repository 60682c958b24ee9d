"""Responses through the whole tree, as the `openai` package sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

from tests.e2e.server import Server
from tests.worker.outputs import CASES, TOOLS, Case

OWN_TOOLS: Any = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]


class City(pydantic.BaseModel):
    name: str


pytestmark = pytest.mark.usefixtures("echoes")


@pytest.fixture(scope="module")
def client(echo_server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{echo_server.url}/v1", api_key="none", max_retries=0) as running:
        yield running


def test_a_response_and_its_count(client: openai.OpenAI) -> None:
    response = client.responses.create(model="a", input="one two three", max_output_tokens=2)
    assert (response.output_text, response.status) == ("one two", "incomplete")
    assert response.incomplete_details.reason == "max_output_tokens"  # type: ignore[union-attr]
    assert response.usage.total_tokens == response.usage.input_tokens + 2  # type: ignore[union-attr]
    counted = client.responses.input_tokens.count(model="a", input="one two three")
    assert counted.input_tokens == response.usage.input_tokens  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["hermes", "coder in thought", "mistral new", "plain", "think"])
def test_a_stream_is_the_response(client: openai.OpenAI, name: str) -> None:
    case: Case = CASES[name]
    content = json.dumps({"echo": {"raw": case.template}}) + case.output
    whole = client.responses.create(model="a", input=content, tools=OWN_TOOLS)
    with client.responses.stream(model="a", input=content, tools=OWN_TOOLS) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        streamed = stream.get_final_response()
    assert whole.output_text == streamed.output_text == text == case.content
    calls = [(item.name, json.loads(item.arguments)) for item in whole.output if item.type == "function_call"]
    again = [(item.name, json.loads(item.arguments)) for item in streamed.output if item.type == "function_call"]
    assert calls == again == list(case.calls)
    thoughts = ["".join(part.text for part in item.content or ()) for item in whole.output if item.type == "reasoning"]
    assert "".join(thoughts) == case.reasoning


def test_a_conversation_with_a_tool_goes_on(client: openai.OpenAI) -> None:
    content = json.dumps({"echo": {"raw": CASES["hermes"].template}}) + CASES["hermes"].output
    first = client.responses.create(model="a", input=content, tools=OWN_TOOLS)
    history: Any = [{"role": "user", "content": "one two"}, *first.output]
    history += [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
        for item in first.output
        if item.type == "function_call"
    ]
    assert client.responses.create(model="a", input=history, tools=OWN_TOOLS).output_text == "one two"


def test_a_response_parsed_by_a_class(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="a", input='{"name":"Paris"}', text_format=City)
    assert response.output_parsed == City(name="Paris")


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as stored:
        client.responses.create(model="a", input="x", previous_response_id="resp_1")
    assert (stored.value.status_code, stored.value.code) == (501, "unsupported_feature")
    fault = json.dumps({"echo": {"fault": "exit:1", "at": 1}}) + "one two"
    with pytest.raises(openai.APIError) as lost:
        list(client.responses.create(model="a", input=fault, stream=True))
    assert lost.value.code == "worker_died"
