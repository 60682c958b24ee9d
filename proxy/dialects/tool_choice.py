"""`tool_choice`: who decides whether a tool is called. API.md, 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.dialects.fields import bad
from proxy.errors import BadRequest

Tools = list[dict[str, Any]]


def must_call(choice: Any, tools: Tools) -> tuple[str, ...]:
    """The names of which one must be called; () if that is the model's choice. Raises BadRequest."""
    names = tuple(tool["function"]["name"] for tool in tools)
    if choice is None or choice in ("auto", "none"):
        return ()
    if choice == "required":
        if not names:
            raise BadRequest('tool_choice: "required" needs a function in tools', "tool_choice")
        return names
    if isinstance(choice, Mapping):
        return (_named(choice, names),)
    raise BadRequest('tool_choice: expected "auto", "none", "required" or a function', "tool_choice")


def is_named(choice: Any) -> bool:
    """Whether one certain function is to be called, once."""
    return isinstance(choice, Mapping)


def _named(choice: Mapping[str, Any], names: tuple[str, ...]) -> str:
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or name not in names:
        raise bad(("tool_choice", "function", "name"), "the name of one of the tools", name)
    return name
