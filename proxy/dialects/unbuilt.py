"""Fields that would change the output and are not built yet: refused with 501, never ignored in silence.

Each row is a field, and what it may hold without effect. A feature that is built takes its row along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy.dialects.fields import bad
from proxy.errors import BadRequest, Unsupported

Off = Callable[[Any], bool]


def _number(off: Callable[[float], bool]) -> Off:
    return lambda value: isinstance(value, int | float) and off(value)


def _empty(value: Any) -> bool:
    return value in ("", [], {}, False)


_OFF: dict[str, Off] = {
    "lora": _empty,
    "grammar_lazy": _empty,
    "reasoning_budget_tokens": _number(lambda value: value < 0),
    "thinking_budget_tokens": _number(lambda value: value < 0),
}
_AUTO = ("auto", "none", "required")


def refuse(body: Mapping[str, Any]) -> None:
    """Raises Unsupported for the first field that asks for what is not built; BadRequest if it cannot be meant."""
    for field, off in _OFF.items():
        if (value := body.get(field)) is not None and not off(value):
            raise Unsupported(field, field)


def built(field: str) -> bool:
    """Whether a field that another dialect's stands for would be honoured."""
    return field not in _OFF


def refuse_tool_choice(choice: Any, tools: list[dict[str, Any]]) -> None:
    """Only "auto" and "none" are built; they never break a plain chat. API.md, 6."""
    if choice is None or choice in ("auto", "none"):
        return
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if name not in [tool["function"]["name"] for tool in tools]:
            raise bad(("tool_choice", "function", "name"), "the name of one of the tools", name)
    elif choice not in _AUTO:
        raise BadRequest('tool_choice: expected "auto", "none", "required" or a function', "tool_choice")
    raise Unsupported("tool_choice", "tool_choice")
