"""The whole tree, as the `anthropic` package sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.server import Server
from tests.worker.outputs import CASES, TOOLS, Case

QUESTION: Any = [{"role": "user", "content": "one two three"}]
TO_ITS_END = {"n_predict": -1}  # the echo worker fills up what max_tokens allows
OWN_TOOLS: Any = [
    {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    for function in (tool["function"] for tool in TOOLS)
]

pytestmark = pytest.mark.usefixtures("echoes")


@pytest.fixture(scope="module")
def client(echo_server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=echo_server.url, api_key="none", max_retries=0) as running:
        yield running


def asked(case: Case) -> Any:
    content = json.dumps({"echo": {"raw": case.template}}) + case.output
    messages = [{"role": "user", "content": content}]
    return {"model": "a", "max_tokens": 4096, "tools": OWN_TOOLS, "messages": messages, "extra_body": TO_ITS_END}


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="a", max_tokens=2, messages=QUESTION, system="be brief")
    assert [block.text for block in message.content if block.type == "text"] == ["one two"]
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)
    prompt = "system: be brief\nuser: one two three\n"  # the echo worker's tokens are bytes
    assert message.usage.input_tokens == len(prompt)
    counted = client.messages.count_tokens(model="a", messages=QUESTION, system="be brief")
    assert counted.input_tokens == len(prompt)


def test_a_stop_sequence(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="a", max_tokens=9, messages=QUESTION, stop_sequences=["three"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")


@pytest.mark.parametrize("name", ["hermes", "coder in thought", "mistral new", "plain", "think"])
def test_a_stream_is_the_message(client: anthropic.Anthropic, name: str) -> None:
    case = CASES[name]
    whole = client.messages.create(**asked(case))
    with client.messages.stream(**asked(case)) as stream:
        text = "".join(stream.text_stream)
        found = stream.get_final_message()
    one, other = ([block.to_dict() | {"id": ""} for block in message.content] for message in (found, whole))
    assert one == other  # but for the random ids of calls
    assert (found.stop_reason, found.usage) == (whole.stop_reason, whole.usage)
    assert text == case.content
    thoughts = "".join(block.thinking for block in whole.content if block.type == "thinking")
    calls = [(block.name, block.input) for block in whole.content if block.type == "tool_use"]
    assert (thoughts, calls) == (case.reasoning, list(case.calls))
    assert whole.stop_reason == ("tool_use" if calls else "end_turn")


def test_a_conversation_with_a_tool_goes_on(client: anthropic.Anthropic) -> None:
    first = client.messages.create(**asked(CASES["hermes"]))
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in first.content
        if block.type == "tool_use"
    ]
    history: Any = [*QUESTION, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    again = client.messages.create(model="a", max_tokens=50, messages=history, tools=OWN_TOOLS, extra_body=TO_ITS_END)
    assert again.stop_reason == "end_turn"


def test_errors_are_of_the_packages_classes(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="none", max_tokens=2, messages=QUESTION)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError) as long:
        client.messages.create(model="a", max_tokens=2, messages=[{"role": "user", "content": "x" * 5000}])
    assert "exceeds the available context size" in str(long.value)
    fault = json.dumps({"echo": {"fault": "exit:1", "at": 1}}) + "one two"
    with (
        pytest.raises(anthropic.APIStatusError) as lost,
        client.messages.stream(model="a", max_tokens=9, messages=[{"role": "user", "content": fault}]) as stream,
    ):
        stream.until_done()
    assert lost.value.body["error"]["code"] == "worker_died"  # type: ignore[index]
