"""The input of a Responses request: its items as messages of a chat. API.md, 4.4."""

from __future__ import annotations

from typing import Any

from proxy.dialects.fields import bad
from proxy.dialects.translated import Conversation, call, parts
from proxy.errors import Unsupported
from supervisor.schema import Path, dotted

_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_ROLES = ("user", "assistant", "system", "developer")
_NOT_SERVED = ("input_file", "item_reference")


class Items:
    """Collects items; what an assistant thought, said and called in a row becomes one message of the template's."""

    def __init__(self, found: Conversation) -> None:
        self._found = found
        self._pending: dict[str, Any] = {}
        self._place = ""

    def add(self, item: Any, path: Path) -> None:
        """Raises BadRequest, Unsupported."""
        if not isinstance(item, dict):
            raise bad(path, "an object", item)
        match item.get("type", "message"):
            case "message":
                self._message(item, path)
            case "reasoning":
                self._assistant("reasoning_content", _thoughts(item, path), path)
            case "function_call":
                found = call(
                    _string(item, "call_id", path), _string(item, "name", path), _string(item, "arguments", path)
                )
                self._assistant("tool_calls", [found], path)
            case "function_call_output":
                self.flush()
                content = _content(item.get("output"), (*path, "output"))
                self._found.add(dotted(path), "tool", content, tool_call_id=_string(item, "call_id", path))
            case str(kind):
                raise Unsupported(f"an input item of type {kind[:40]}", dotted((*path, "type")))
            case kind:
                raise bad((*path, "type"), "string", kind)

    def flush(self) -> None:
        """The assistant's turn is over."""
        if self._pending:
            content = self._pending.pop("content", "")
            self._found.add(self._place, "assistant", content, **self._pending)
            self._pending = {}

    def _message(self, item: dict[str, Any], path: Path) -> None:
        role, content = item.get("role"), _content(item.get("content"), (*path, "content"))
        if role not in _ROLES:
            raise bad((*path, "role"), '"user", "assistant", "system" or "developer"', role)
        if role == "assistant":
            self._assistant("content", content, path)
        else:
            self.flush()
            self._found.add(dotted(path), role, content)

    def _assistant(self, name: str, value: Any, path: Path) -> None:
        """Thoughts, text, calls: in this order they are one turn; what comes out of it begins the next."""
        if name == "tool_calls":
            value = self._pending.get(name, []) + value
        elif self._pending.keys() & {name, "content", "tool_calls"}:
            self.flush()
        if not self._pending:
            self._place = dotted(path)
        self._pending[name] = value


def _thoughts(item: dict[str, Any], path: Path) -> str:
    """The text of a reasoning item, else its summary."""
    for name in ("content", "summary"):
        entries = item.get(name) or []
        if not isinstance(entries, list):
            raise bad((*path, name), "list", entries)
        if entries:
            return "".join(_text(entry, (*path, name, index)) for index, entry in enumerate(entries))
    return ""


def _text(entry: Any, path: Path) -> str:
    if not isinstance(entry, dict):
        raise bad(path, "an object", entry)
    return _string(entry, "text", path)


def _content(content: Any, path: Path) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad(path, "string or list of parts", content)
    found = [_part(part, (*path, index)) for index, part in enumerate(content)]
    if all(part["type"] == "text" for part in found):
        return parts([part["text"] for part in found])
    return found


def _part(part: Any, path: Path) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise bad(path, "an object", part)
    kind = part.get("type")
    if kind in _NOT_SERVED:
        raise Unsupported(str(kind), dotted((*path, "type")))
    if kind == "input_image":
        if part.get("file_id"):
            raise Unsupported("file_id", dotted((*path, "file_id")))
        return {"type": "image_url", "image_url": {"url": _string(part, "image_url", path)}}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    if not isinstance(kind, str) or kind not in _TEXTS:
        raise bad((*path, "type"), '"input_text", "input_image" or "output_text"', kind)
    return {"type": "text", "text": _string(part, _TEXTS[kind], path)}


def _string(item: dict[str, Any], name: str, path: Path) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise bad((*path, name), "string", value)
    return value
