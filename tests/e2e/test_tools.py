"""Reasoning and tool calls through the whole tree, as the `openai` package sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.server import Server
from tests.worker.outputs import CASES, TOOLS, Case

NAMES = ("hermes", "coder in thought", "harmony call", "mistral new", "kimi", "command", "plain", "think")

pytestmark = pytest.mark.usefixtures("echoes")


@pytest.fixture(scope="module")
def client(echo_server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{echo_server.url}/v1", api_key="none", max_retries=0) as running:
        yield running


def asked(client: openai.OpenAI, case: Case, **more: Any) -> Any:
    options = json.dumps({"echo": {"raw": case.template}})
    messages: Any = [{"role": "user", "content": options + case.output}]
    return client.chat.completions.create(model="a", messages=messages, tools=TOOLS, **more)  # type: ignore[call-overload]


def put_together(chunks: Any) -> tuple[str, str, list[tuple[str, str]], str]:
    content = reasoning = end = ""
    calls: list[tuple[str, str]] = []
    for chunk in chunks:
        (choice,) = chunk.choices
        content += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        for call in choice.delta.tool_calls or ():
            if call.id:
                assert call.index == len(calls)
                calls.append((call.function.name, ""))
            name, arguments = calls[call.index]
            calls[call.index] = name, arguments + call.function.arguments
        end = choice.finish_reason or end
    return content, reasoning, calls, end


@pytest.mark.parametrize("name", NAMES)
def test_a_streamed_reply_equals_the_unstreamed_one(client: openai.OpenAI, name: str) -> None:
    case = CASES[name]
    (whole,) = asked(client, case).choices
    calls = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls or ()]
    reasoning = getattr(whole.message, "reasoning_content", None) or ""
    streamed = put_together(asked(client, case, stream=True))
    assert streamed == (whole.message.content, reasoning, calls, whole.finish_reason)
    assert (whole.message.content, reasoning) == (case.content, case.reasoning)
    assert [(called, json.loads(text)) for called, text in calls] == list(case.calls)
    assert whole.finish_reason == ("tool_calls" if case.calls else "stop")


@pytest.mark.parametrize("stream", [True, False])
def test_one_call_where_parallel_ones_are_refused(client: openai.OpenAI, stream: bool) -> None:
    reply = asked(client, CASES["hermes"], parallel_tool_calls=False, stream=stream)
    if stream:
        assert len(put_together(reply)[2]) == 1
    else:
        assert len(reply.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("more", [{"tool_choice": "none"}, {"extra_body": {"parse_tool_calls": False}}])
def test_calls_that_are_not_wanted_are_text(client: openai.OpenAI, more: dict[str, Any]) -> None:
    (choice,) = asked(client, CASES["hermes"], **more).choices
    assert choice.message.tool_calls is None
    assert choice.message.content.count("<tool_call>") == 2
    assert choice.finish_reason == "stop"


def test_raw_reasoning(client: openai.OpenAI) -> None:
    (choice,) = asked(client, CASES["think"], extra_body={"reasoning_format": "none"}).choices
    assert choice.message.content == CASES["think"].output
