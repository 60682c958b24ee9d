"""`allOf` of plain objects → one object, so that it can be closed like any other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SAID = frozenset(("type", "properties", "required"))
_UNSAID = frozenset(
    ("title", "description", "default", "examples", "$defs", "definitions", "$schema", "$id", "$comment")
)


def flattened(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with what its `allOf` says in it; itself if that is more than disjoint properties of objects."""
    parts = [_resolved(part, root) for part in schema.get("allOf", ())]
    own = {key: value for key, value in schema.items() if key != "allOf"}
    if not parts or not all(_is_plain(part) for part in (own, *parts)):
        return schema
    properties: dict[str, Any] = {}
    for part in (own, *parts):
        if set(properties) & set(part.get("properties", {})):
            return schema
        properties |= part.get("properties", {})
    required = [name for part in (own, *parts) for name in part.get("required", ())]
    merged = {**own, "type": "object", "properties": properties, "required": list(dict.fromkeys(required))}
    return merged if properties else schema


def _resolved(part: Any, root: Mapping[str, Any]) -> Any:
    """What a lone reference to a definition refers to."""
    if isinstance(part, Mapping) and set(part) - _UNSAID == {"$ref"} and isinstance(part["$ref"], str):
        place = part["$ref"].split("/")
        if len(place) == 3 and place[0] == "#" and place[1] in ("$defs", "definitions"):
            definitions = root.get(place[1])
            return definitions.get(place[2]) if isinstance(definitions, Mapping) else None
    return part


def _is_plain(part: Any) -> bool:
    if not isinstance(part, Mapping) or set(part) - _SAID - _UNSAID or part.get("type", "object") != "object":
        return False
    names = part.get("required", [])
    strings = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return strings and isinstance(part.get("properties", {}), Mapping)
