"""POST /v1/responses. API.md, 4.4."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec

from proxy.dialects import translated
from proxy.dialects.fields import Tokens, bad, typed
from proxy.dialects.reply import Plan
from proxy.dialects.responses_input import Items
from proxy.dialects.responses_reply import ResponseReply
from proxy.errors import BadRequest, Unsupported
from worker.protocol import Counted

_OWN = {
    "input", "instructions", "max_output_tokens", "messages", "tools", "tool_choice", "reasoning", "text", "include",
    "n", "n_cmpl", "logprobs", "top_logprobs",
}  # fmt: skip
_STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
_LOGPROBS = "message.output_text.logprobs"
_CHOICES = ("auto", "none", "required")


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    effort: str | None = None


class Format(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    schema: Any = None


class Text(msgspec.Struct, frozen=True, kw_only=True):
    format: Format = Format()


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What this route has in words of its own; generation fields stand beside it."""

    input: Any = None
    instructions: str = ""
    max_output_tokens: Tokens | None = None
    tools: list[dict[str, Any]] = msgspec.field(default_factory=list)
    tool_choice: Any = None
    reasoning: Reasoning = Reasoning()
    text: Text = Text()
    include: list[str] = msgspec.field(default_factory=list)
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] = "disabled"
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    parallel_tool_calls: bool = True


def parse(body: dict[str, Any], request_id: str) -> Plan:
    """The body of a request. Raises BadRequest, Unsupported."""
    for name in _STATEFUL:
        if body.get(name):
            raise Unsupported(name, name, f"{name} is not supported: nothing is stored")
    request = typed(body, Request)
    found = translated.Conversation()
    if request.instructions:
        found.add("instructions", "system", request.instructions)
    _input(request.input, found)
    kind, truncates = partial(ResponseReply, _echo(body, request)), request.truncation == "auto"
    return translated.plan(_chat(body, request), found, request_id, kind, truncates=truncates)


def counted(answer: Counted) -> dict[str, Any]:
    return {"object": "response.input_tokens", "input_tokens": answer.tokens}


def _input(value: Any, found: translated.Conversation) -> None:
    if value is None:
        raise BadRequest("input: required (string or list of items)", "input", "missing_field")
    if isinstance(value, str):
        found.add("input", "user", value)
        return
    if not isinstance(value, list) or not value:
        raise bad(("input",), "string or list of items, not empty", value)
    items = Items(found)
    for index, item in enumerate(value):
        items.add(item, ("input", index))
    items.flush()


def _chat(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """The body of a chat completion, its messages aside."""
    found = {name: value for name, value in body.items() if name not in _OWN}
    if request.max_output_tokens is not None:
        found["max_completion_tokens"] = request.max_output_tokens
    if request.tools:
        found["tools"] = [_tool(raw, index) for index, raw in enumerate(request.tools) if raw.get("type") == "function"]
    if request.tool_choice is not None:
        found["tool_choice"] = _choice(request.tool_choice)
    if request.reasoning.effort is not None:
        found["reasoning_effort"] = request.reasoning.effort
    form = request.text.format
    if form.type != "text":
        found["response_format"] = {"type": form.type, "schema": form.schema}
    if _LOGPROBS in request.include or request.top_logprobs:
        found |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return found


def _tool(raw: dict[str, Any], index: int) -> dict[str, Any]:
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        raise bad(("tools", index, "name"), "string", name)
    said = {key: raw[key] for key in ("name", "description", "parameters", "strict") if raw.get(key) is not None}
    return {"type": "function", "function": said}


def _choice(choice: Any) -> Any:
    if choice in _CHOICES:
        return choice
    if not isinstance(choice, dict):
        raise bad(("tool_choice",), '"auto", "none", "required" or a function', choice)
    if choice.get("type") != "function":
        raise Unsupported("tool_choice", "tool_choice", f"tool_choice of type {str(choice.get('type'))[:40]}")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _echo(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """What of a request its answer repeats; packages expect these fields."""
    form = {"type": "text"} if request.text.format.type == "text" else body["text"]["format"]
    return {
        "instructions": request.instructions or None,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": None,
        "reasoning": {"effort": request.reasoning.effort, "summary": None},
        "temperature": body.get("temperature"),
        "text": {"format": form},
        "tool_choice": request.tool_choice or "auto",
        "tools": request.tools,
        "top_p": body.get("top_p"),
        "truncation": request.truncation,
    }
