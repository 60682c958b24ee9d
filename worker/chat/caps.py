"""What a chat template can do, found out by tiny renders at load; and messages adapted to that. ENGINE.md, 10."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from worker.failure import RequestError

Render = Callable[..., str]  # (messages, **context) → text; raises RequestError
Message = dict[str, Any]

_MARK = "qxzprobe"
_OTHER = "qxzsecond"


@dataclass(frozen=True, slots=True)
class Caps:
    """The API's `chat_template_caps`, without their prefix `supports_`."""

    string_content: bool = True
    typed_content: bool = False
    tools: bool = False
    tool_calls: bool = False
    parallel_tool_calls: bool = False
    system_role: bool = True
    preserve_reasoning: bool = False
    reasoning_effort: bool = False
    object_arguments: bool = False

    def as_dict(self) -> dict[str, bool]:
        return {f"supports_{name}": value for name, value in asdict(self).items()}

    @property
    def usable(self) -> bool:
        """Whether the template shows what a user says, in any form."""
        return self.string_content or self.typed_content


def probe(render: Render) -> Caps:
    """Renders some conversations and looks for what was put in."""

    def shown(messages: list[Message], *marks: str, **context: Any) -> bool:
        try:
            text = render(messages, **context)
        except RequestError:
            return False
        return all(mark in text for mark in marks)

    def typed() -> bool:
        try:
            text = render([{"role": "user", "content": [{"type": "text", "text": _MARK}]}])
        except RequestError:
            return False
        return _MARK in text and "'text'" not in text and '"text"' not in text

    string, parts = shown([_user(_MARK)], _MARK), typed()

    def content(text: str) -> Any:
        return text if string else [{"type": "text", "text": text}]

    user = _user(content("hello"))
    objects = shown([user, _calls({"k": _OTHER})], f'"{_OTHER}"') or shown([user, _calls({"k": _OTHER})], _OTHER)
    texts = shown([user, _calls('{"k": "' + _OTHER + '"}')], f'"{_OTHER}"')
    arguments: Any = {"k": _OTHER} if objects else '{"k": "' + _OTHER + '"}'
    calls = shown([user, _calls(arguments)], _MARK, _OTHER)
    return Caps(
        string_content=string,
        typed_content=parts,
        tools=shown([user], _MARK, tools=[_TOOL]),
        tool_calls=calls,
        parallel_tool_calls=calls and shown([user, _calls(arguments, twice=True)], _MARK, f"{_MARK}2"),
        system_role=shown([{"role": "system", "content": content(_MARK)}, user], _MARK),
        preserve_reasoning=shown([user, _thought(content("x")), user], _MARK),
        reasoning_effort=shown([user], _MARK, reasoning_effort=_MARK),
        object_arguments=objects and not texts,
    )


def adapt(messages: list[Message], caps: Caps) -> list[Message]:
    """The messages as this template wants them: new ones where they change, never the caller's own."""
    adapted = [_adapt(message, caps) for message in messages]
    if caps.system_role or not adapted or adapted[0].get("role") != "system":
        return adapted
    system, rest = adapted[0], adapted[1:]
    for index, message in enumerate(rest):
        if message.get("role") == "user":
            folded = {**message, "content": f"{_text(system['content'])}\n\n{_text(message['content'])}"}
            return [*rest[:index], folded, *rest[index + 1 :]]
    return [{**system, "role": "user"}, *rest]


def _adapt(message: Message, caps: Caps) -> Message:
    changed = dict(message)
    if changed.get("role") == "developer":
        changed["role"] = "system"
    content = changed.get("content")
    if content is None:
        changed["content"] = ""
    elif isinstance(content, list) and not caps.typed_content:
        changed["content"] = _text(content)
    elif isinstance(content, str) and not caps.string_content:
        changed["content"] = [{"type": "text", "text": content}]
    if caps.object_arguments and isinstance(changed.get("tool_calls"), list):
        changed["tool_calls"] = [_with_object(call) for call in changed["tool_calls"]]
    return changed


def _text(content: Any) -> str:
    """The texts of typed parts in one."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in content)
    return str(content)


def _with_object(call: Any) -> Any:
    """The call with its arguments parsed, if they are JSON."""
    try:
        function = call["function"]
        return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}
    except (TypeError, KeyError, ValueError):
        return call


def _user(content: Any) -> Message:
    return {"role": "user", "content": content}


def _calls(arguments: Any, *, twice: bool = False) -> Message:
    names = [_MARK, f"{_MARK}2"] if twice else [_MARK]
    calls = [
        {"id": f"call0000{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, name in enumerate(names)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _thought(content: Any) -> Message:
    return {"role": "assistant", "content": content, "reasoning_content": _MARK}


_TOOL = {
    "type": "function",
    "function": {"name": _MARK, "description": "a probe", "parameters": {"type": "object", "properties": {}}},
}
