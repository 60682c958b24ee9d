"""The conversation of a chat request, checked and brought into the form that templates expect. API.md, 6."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.dialects.fields import bad, typed
from proxy.dialects.tool_choice import must_call
from proxy.errors import BadRequest, Unsupported
from supervisor.schema import Path, dotted
from worker.protocol import Chat

_MEDIA = {
    "image_url": "image input",
    "input_audio": "audio input",
    "input_video": "video input",
    "video_url": "video input",
}
_REASONING = ("auto", "deepseek", "deepseek-legacy", "none")


class Function(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    arguments: Any = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    function: Function
    id: str = ""
    type: str = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message; `content` is text or typed parts."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a chat body that decides the prompt. `continue_final_message` may name the part to continue."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = msgspec.field(default_factory=list)
    tool_choice: Any = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | str = False
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    reasoning_effort: str | None = None
    echo: bool = False
    parse_tool_calls: bool = True
    parallel_tool_calls: bool | None = None
    reasoning_format: str = "auto"

    @property
    def parses_tools(self) -> bool:
        """Whether calls are split out of the text. API.md, 6: "none" shows the tools to the model all the same."""
        return self.parse_tool_calls and self.tool_choice != "none" and bool(function_tools(self.tools))

    @property
    def must_call(self) -> tuple[str, ...]:
        """The functions of which one must be called, () for the model's choice. Raises BadRequest."""
        return must_call(self.tool_choice, function_tools(self.tools))

    @property
    def reasoning(self) -> str:
        """Raises BadRequest."""
        if self.reasoning_format not in _REASONING:
            raise bad(("reasoning_format",), '"auto", "deepseek", "deepseek-legacy" or "none"', self.reasoning_format)
        return self.reasoning_format

    @property
    def opening(self) -> str:
        """The text that a continued message has already, for clients that want it repeated."""
        content = self.messages[-1].get("content") if self.echo and self.messages[-1].get("role") == "assistant" else ""
        parts = content if isinstance(content, list) else [{"text": content}]
        return "".join(part.get("text") or "" for part in parts)

    def chat(self) -> Chat:
        """What the worker renders. Raises BadRequest, Unsupported."""
        if not self.messages:
            raise BadRequest("messages: expected at least one message, got []", "messages")
        messages = [message(raw, ("messages", index)) for index, raw in enumerate(self.messages)]
        continued = self._continued(messages)
        tools = function_tools(self.tools)
        return Chat(
            messages=messages,
            tools=tools or None,
            template_kwargs=self._kwargs(),
            add_generation_prompt=not continued and self.add_generation_prompt is not False,
            continue_final=continued,
        )

    def _continued(self, messages: list[dict[str, Any]]) -> bool:
        """Whether the last message is a beginning that the model continues."""
        wanted = self.continue_final_message
        if wanted not in (True, False, "content"):
            if wanted == "reasoning_content":
                raise Unsupported("continuing reasoning_content", "continue_final_message")
            raise bad(("continue_final_message",), 'true, false, "content" or "reasoning_content"', wanted)
        roles = [found["role"] for found in messages[-2:]]
        if roles[-1] != "assistant":
            if wanted:
                text = "continue_final_message: the last message is not the assistant's"
                raise BadRequest(text, "continue_final_message")
            return False
        if self.add_generation_prompt:
            if not wanted:
                return False
            raise BadRequest(
                "add_generation_prompt and continue_final_message exclude each other",
                "add_generation_prompt",
                "conflicting_fields",
            )
        if roles == ["assistant", "assistant"]:
            raise BadRequest("messages: two assistant messages at the end cannot be continued", "messages")
        if messages[-1].get("tool_calls"):
            raise BadRequest("messages: a message with tool calls cannot be continued", "messages")
        return True

    def _kwargs(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.reasoning_effort == "none":
            found["enable_thinking"] = False
        elif self.reasoning_effort is not None:
            found["reasoning_effort"] = self.reasoning_effort
        thinking = self.chat_template_kwargs.get("enable_thinking")
        if thinking is not None and not isinstance(thinking, bool):
            raise bad(("chat_template_kwargs", "enable_thinking"), "true or false", thinking)
        return found | self.chat_template_kwargs


def message(raw: Any, path: Path) -> dict[str, Any]:
    """One message as templates expect it. Raises BadRequest, Unsupported."""
    found, place = typed(raw, Message, path), dotted(path)
    if found.role == "assistant":
        if found.content is None and not found.tool_calls and found.reasoning_content is None:
            raise BadRequest(f"{place}: an assistant message needs content or tool_calls", place)
    elif "content" not in raw:
        raise BadRequest(f"{place}.content: required", f"{place}.content", "missing_field")
    plain: dict[str, Any] = msgspec.to_builtins(found)
    plain["role"] = "system" if found.role == "developer" else found.role
    plain["content"] = found.content
    if isinstance(found.content, list):
        plain["content"] = [_part(part, (*path, "content", index)) for index, part in enumerate(found.content)]
    return plain


def function_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools a template can show: functions; other kinds are skipped. Raises BadRequest for one without a name."""
    found = [(index, tool) for index, tool in enumerate(tools) if tool.get("type", "function") == "function"]
    for index, tool in found:
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise bad(("tools", index, "function", "name"), "string", name)
    return [tool for _, tool in found]


def _part(part: dict[str, Any], path: Path) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise bad((*path, kind), "string", text)
        return {"type": "text", "text": text}
    if isinstance(kind, str) and kind in _MEDIA:
        raise Unsupported(_MEDIA[kind], dotted((*path, "type")))
    raise bad((*path, "type"), '"text"', kind)
