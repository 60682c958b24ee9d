"""POST /v1/messages. API.md, 8."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from proxy.dialects import anthropic_messages, translated
from proxy.dialects.anthropic_reply import MessageReply
from proxy.dialects.fields import MAX_STOPS, Tokens, bad, typed
from proxy.dialects.reply import Plan
from proxy.errors import BadRequest
from worker.protocol import Counted

MAX_TOKENS = 4096  # where a request does not say
_OWN = ("messages", "system", "tools", "tool_choice", "thinking", "stop_sequences", "output_config", "n", "n_cmpl")
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool = False


class Format(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class Output(msgspec.Struct, frozen=True, kw_only=True):
    format: Format | None = None
    effort: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What this route has in words of its own; generation fields stand beside it."""

    messages: list[dict[str, Any]]
    system: Any = None
    tools: list[dict[str, Any]] = msgspec.field(default_factory=list)
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    max_tokens: Tokens = MAX_TOKENS
    stop_sequences: Annotated[list[str], Meta(max_length=MAX_STOPS, description=f"(at most {MAX_STOPS})")] | None = None
    output_config: Output = Output()
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)


def parse(body: dict[str, Any], request_id: str) -> Plan:
    """The body of a messages request. Raises BadRequest, Unsupported."""
    request = typed(body, Request)
    if not request.messages:
        raise BadRequest("messages: expected at least one message, got []", "messages")
    found = translated.Conversation()
    if request.system is not None:
        anthropic_messages.system(request.system, found)
    for index, raw in enumerate(request.messages):
        anthropic_messages.message(raw, ("messages", index), found)
    return translated.plan(_chat(body, request), found, request_id, partial(MessageReply, request_id))


def counted(answer: Counted) -> dict[str, Any]:
    return {"input_tokens": answer.tokens}


def _chat(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """The body of a chat completion, its messages aside."""
    found = {name: value for name, value in body.items() if name not in _OWN}
    found["max_tokens"] = request.max_tokens
    if request.stop_sequences is not None:
        found["stop"] = request.stop_sequences
    if request.tools:
        found["tools"] = [tool for index, raw in enumerate(request.tools) if (tool := _tool(raw, index))]
    if request.tool_choice is not None:
        found |= _choice(request.tool_choice)
    if request.output_config.format is not None:
        found["response_format"] = {"type": "json_schema", "schema": request.output_config.format.schema}
    if request.output_config.effort is not None:
        found["reasoning_effort"] = request.output_config.effort
    return found | (_thinking(request.thinking, request.chat_template_kwargs) if request.thinking else {})


def _tool(raw: dict[str, Any], index: int) -> dict[str, Any] | None:
    """A function; None for a tool that only Anthropic's own servers run."""
    if raw.get("type") not in (None, "custom"):
        return None
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        raise bad(("tools", index, "name"), "string", name)
    schema = raw.get("input_schema")
    function = {"name": name, "parameters": {"type": "object", "properties": {}} if schema is None else schema}
    if raw.get("description"):
        function["description"] = raw["description"]
    return {"type": "function", "function": function}


def _choice(choice: Choice) -> dict[str, Any]:
    found: dict[str, Any] = {"tool_choice": _CHOICES.get(choice.type)}
    if choice.type == "tool":
        if not choice.name:
            raise bad(("tool_choice", "name"), "the name of one of the tools", choice.name)
        found["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    return found | ({"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {})


def _thinking(thinking: Thinking, kwargs: dict[str, Any]) -> dict[str, Any]:
    """On or off for the template, and the budget."""
    found: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": thinking.type != "disabled"} | kwargs}
    if thinking.type == "enabled" and thinking.budget_tokens is not None:
        found["thinking_budget_tokens"] = thinking.budget_tokens
    return found
