"""The conversation of an Anthropic request: its blocks as messages of a chat. API.md, 8."""

from __future__ import annotations

import re
from typing import Any

from proxy.dialects.fields import bad
from proxy.dialects.translated import Conversation, call, parts
from proxy.errors import Unsupported
from supervisor.schema import Path, dotted

_BILLING = "x-anthropic-billing-header:"  # one client's first system text; its hash changes with every request
_HASH = re.compile(r"\bcch=[^;\s]*")
_SKIPPED = ("redacted_thinking", "server_tool_use", "web_search_tool_result")  # of another server; no use here
_NOT_SERVED = ("document", "search_result", "container_upload")
Blocks = list[tuple[dict[str, Any], Path]]


def system(value: Any, found: Conversation) -> None:
    """A text or text blocks. Raises BadRequest, Unsupported."""
    texts = [_steady(_text(block, path)) for block, path in _blocks(value, ("system",))]
    if texts:
        found.add("system", "system", parts(texts))


def message(raw: dict[str, Any], path: Path, found: Conversation) -> None:
    """One message; results of tools become messages of their own. Raises BadRequest, Unsupported."""
    role = raw.get("role")
    if role not in ("user", "assistant", "system"):
        raise bad((*path, "role"), '"user" or "assistant"', role)
    blocks = _blocks(raw.get("content"), (*path, "content"))
    if role == "assistant":
        _assistant(blocks, dotted(path), found)
    elif role == "system":
        found.add(dotted(path), role, parts([_text(block, place) for block, place in blocks]))
    else:
        _user(blocks, dotted(path), found)


def _user(blocks: Blocks, place: str, found: Conversation) -> None:
    """Results first: a template wants them right after the calls."""
    results = [(block, path) for block, path in blocks if block.get("type") == "tool_result"]
    for block, path in results:
        content = _content(_blocks(block.get("content") or "", (*path, "content")))
        found.add(place, "tool", content, tool_call_id=_string(block, "tool_use_id", path))
    others = [(block, path) for block, path in blocks if block.get("type") != "tool_result"]
    if others or not results:
        found.add(place, "user", _content(others))


def _assistant(blocks: Blocks, place: str, found: Conversation) -> None:
    texts, thoughts, calls = [], [], []
    for block, path in blocks:
        match block.get("type"):
            case "thinking":
                thoughts.append(_string(block, "thinking", path))
            case "tool_use":
                arguments = block.get("input") if block.get("input") is not None else {}
                if not isinstance(arguments, dict):
                    raise bad((*path, "input"), "an object", arguments)
                calls.append(call(_string(block, "id", path), _string(block, "name", path), arguments))
            case kind if kind in _SKIPPED:
                pass
            case _:
                texts.append(_text(block, path))
    more: dict[str, Any] = {"tool_calls": calls} if calls else {}
    if thoughts:
        more["reasoning_content"] = "".join(thoughts)
    found.add(place, "assistant", "".join(texts), **more)


def _content(blocks: Blocks) -> str | list[dict[str, Any]]:
    """Text as it is, or parts with images among them."""
    if all(block.get("type") == "text" for block, _ in blocks):
        return parts([_text(block, path) for block, path in blocks])
    return [_part(block, path) for block, path in blocks]


def _part(block: dict[str, Any], path: Path) -> dict[str, Any]:
    if block.get("type") != "image":
        return {"type": "text", "text": _text(block, path)}
    source = block.get("source")
    if not isinstance(source, dict):
        raise bad((*path, "source"), "an object", source)
    if source.get("type") == "url":
        url = _string(source, "url", (*path, "source"))
    elif source.get("type") == "base64":
        place = (*path, "source")
        url = f"data:{_string(source, 'media_type', place)};base64,{_string(source, 'data', place)}"
    else:
        raise bad((*path, "source", "type"), '"base64" or "url"', source.get("type"))
    return {"type": "image_url", "image_url": {"url": url}}


def _text(block: dict[str, Any], path: Path) -> str:
    kind = block.get("type")
    if kind in _NOT_SERVED:
        raise Unsupported(f"{kind} input", dotted((*path, "type")))
    if kind != "text":
        raise bad((*path, "type"), "a block that this role may have", kind)
    return _string(block, "text", path)


def _blocks(content: Any, path: Path) -> Blocks:
    """A text counts as one block of text."""
    if isinstance(content, str):
        return [({"type": "text", "text": content}, path)]
    if not isinstance(content, list):
        raise bad(path, "string or list of blocks", content)
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise bad((*path, index), "an object", block)
    return [(block, (*path, index)) for index, block in enumerate(content)]


def _string(block: dict[str, Any], name: str, path: Path) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise bad((*path, name), "string", value)
    return value


def _steady(text: str) -> str:
    """Without what would keep every prompt from beginning like the last one."""
    return _HASH.sub("cch=00000", text, count=1) if text.startswith(_BILLING) else text
