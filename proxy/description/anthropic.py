"""Anthropic's routes. API.md, 8."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.description.operation import AUTOLOAD, RUNS, Answer, Body, Operation
from proxy.dialects import anthropic
from proxy.dialects.fields import Fields


class Block(Struct):
    """A part of a message: `text`, `thinking` with its `signature`, or `tool_use` with `id`, `name` and `input`."""

    type: Literal["text", "thinking", "tool_use"]
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    input: dict[str, Any] | UnsetType = UNSET


class MessageUsage(Struct):
    """Tokens; `input_tokens` without those that were in the cache."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnthropicMessage(Struct):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Block]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(Struct):
    """`message_start`, `content_block_start`, `…_delta`, `…_stop`, `message_delta`, `message_stop`, `ping`, `error`."""

    type: str
    index: int | UnsetType = UNSET
    message: AnthropicMessage | UnsetType = UNSET
    content_block: Block | UnsetType = UNSET
    delta: dict[str, Any] | UnsetType = UNSET
    usage: MessageUsage | UnsetType = UNSET


class TokenCount(Struct):
    input_tokens: int


_CONTENT: dict[str, Any] = {"type": ["string", "array"]}
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "properties": {"role": {"enum": ["user", "assistant", "system"]}, "content": _CONTENT},
    "required": ["role", "content"],
}
_REQUEST = Body(
    "MessagesRequest",
    (anthropic.Request, Fields),
    {"messages": [{"role": "user", "content": "Name three colours."}], "max_tokens": 30},
    {
        "messages": {"type": "array", "items": _MESSAGE, "minItems": 1},
        "system": _CONTENT,
        "json_schema": {"type": ["object", "boolean"]},
    },
)

OPERATIONS = {
    "POST /v1/messages": Operation(
        "Chat",
        "Anthropic's messages: the model's answer to a conversation",
        Answer("The answer; with `stream` its events.", AnthropicMessage, record=MessageEvent),
        _REQUEST,
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /v1/messages/count_tokens": Operation(
        "Chat", "How many tokens such a conversation is", Answer("Their number.", TokenCount), _REQUEST, (), RUNS
    ),
}
