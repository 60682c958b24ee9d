"""The tools of a request, and what a text between tags is in JSON by a tool's schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_STRING = frozenset({"string"})


class Tools:
    """The declared functions; `names` in the client's order."""

    def __init__(self, tools: Sequence[dict[str, Any]]) -> None:
        functions = [tool.get("function") for tool in tools]
        self._functions = {each["name"]: each for each in functions if isinstance(each, dict) and each.get("name")}
        self.names: tuple[str, ...] = tuple(self._functions)

    def types(self, function: str, parameter: str) -> frozenset[str]:
        """The JSON types that a parameter may have; none if the schema does not say."""
        schema: Any = self._functions.get(function)
        for key in ("parameters", "properties", parameter):
            schema = schema.get(key) if isinstance(schema, dict) else None
        return types_of(schema)


def is_text(types: frozenset[str]) -> bool:
    """Whether a value can only be a string, so that it need not be seen whole."""
    return types == _STRING


def as_json(text: str, types: frozenset[str]) -> str:
    """The text as one JSON value: what it is by these types, a string if it is none of them."""
    bare = text.strip()
    if bare in ("True", "False", "None"):  # models write Python's words too
        bare = {"True": "true", "False": "false", "None": "null"}[bare]
    try:
        value = json.loads(bare, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return quoted(text)
    return quoted(text) if "string" in types and not _is(value, types) else bare


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def escaped(text: str) -> str:
    """A part of a JSON string."""
    return quoted(text)[1:-1]


def types_of(schema: Any, depth: int = 4) -> frozenset[str]:
    if not isinstance(schema, dict) or depth == 0:
        return frozenset()
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(each for each in kind if isinstance(each, str))
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        parts = [types_of(choice, depth - 1) for choice in choices]
        return frozenset().union(*parts) if all(parts) else frozenset()
    values = schema.get("enum")
    return _STRING if isinstance(values, list) and all(isinstance(value, str) for value in values) else frozenset()


def _is(value: Any, types: frozenset[str]) -> bool:
    """Whether a parsed value is of one of the types other than string."""
    match value:
        case bool():
            return "boolean" in types
        case None:
            return "null" in types
        case int():
            return bool(types & {"integer", "number"})
        case float():
            return "number" in types
        case dict():
            return "object" in types
        case list():
            return "array" in types
    return False


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
