"""A chat of another dialect in OpenAI's words, so that whatever chat completions can do, it can.

A body is checked by its own dialect first; what is refused after that is told with the place where the client put it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.dialects import openai_chat
from proxy.dialects.answer import Answer
from proxy.dialects.fields import Fields
from proxy.dialects.reply import Plan
from proxy.errors import ApiError

_MESSAGE = re.compile(r"messages\[(\d+)\]")


@dataclass
class Conversation:
    """Messages of a chat completion; `places` are where each of them stood, like `input[3]`."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, place: str, role: str, content: Any, **more: Any) -> None:
        self.messages.append({"role": role, "content": content, **more})
        self.places.append(place)


def plan(
    body: dict[str, Any],
    conversation: Conversation,
    request_id: str,
    kind: Callable[[str, Fields], Answer],
    *,
    truncates: bool = False,
) -> Plan:
    """The plan of a chat completion, with another answer. `body` lacks only the messages. Raises BadRequest, …"""
    try:
        found = openai_chat.parse(body | {"messages": conversation.messages}, request_id)
    except ApiError as error:
        _place(error, conversation.places)
        raise
    return Plan(found.fields, found.asks, [], lambda model, fields, _: kind(model, fields), truncates)


def parts(texts: list[str]) -> str | list[dict[str, Any]]:
    """One text as it is, several as typed parts."""
    return "".join(texts) if len(texts) < 2 else [{"type": "text", "text": text} for text in texts]


def call(id: str, name: str, arguments: Any) -> dict[str, Any]:
    """A call of a tool in a history; `arguments` are a JSON object, or its text."""
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def _place(error: ApiError, places: list[str]) -> None:
    """Says where the client, not the translation, has what is wrong."""
    match = _MESSAGE.match(error.param or "")
    if match is None or int(match[1]) >= len(places):
        return
    place = places[int(match[1])]
    error.args = (str(error).replace(str(error.param), place),)
    error.param = place
