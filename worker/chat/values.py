"""Arguments by a tool's schema, in the syntaxes that families write them in: JSON, tagged values, bare keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from worker.chat.arguments import types_of
from worker.chat.families.family import Tags
from worker.chat.steps import Exact, OneOf, Until
from worker.json_schema import MAX_DEPTH, dumped
from worker.lark import Writer, any_of

_KEY = "/[A-Za-z_][A-Za-z0-9_.-]{0,40}/"
_SCALARS = {
    "integer": r"/-?(0|[1-9][0-9]{0,15})/",
    "number": r"/-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,16})?([eE][-+]?[0-9]{1,2})?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}
Schema = Mapping[str, Any]


def arguments(function: Schema, writer: Writer) -> str:
    """A JSON object. Raises GrammarError."""
    return writer.json(_parameters(function))


def tagged(tags: Tags, function: Schema, writer: Writer) -> list[str]:
    """Keys and values in tags, in the schema's order, and the end of the call. Raises GrammarError."""
    schema = _parameters(function)
    found = []
    for name, part, needed in _properties(schema):
        one = writer.rule(" ".join([*_tag(tags, name, _is_text(part), writer), _value(tags, part, schema, writer)]))
        found.append(one if needed else f"{one}?")
    if _open(schema):
        free = writer.rule(" ".join([*_tag(tags, None, True, writer), _value(tags, {}, schema, writer)]))
        found.append(f"{free}*")
    return [*found, writer.gap, writer.literal(tags.end)]


def bare(function: Schema, quote: str, writer: Writer) -> str:
    """An object with bare keys and quotes of its own. Raises GrammarError."""
    return _Bare(quote, writer).object(_parameters(function), 0)


def _parameters(function: Schema) -> dict[str, Any]:
    """The schema of a function's arguments, which are an object; none are named, none are given."""
    schema = function.get("parameters")
    schema = dict(schema) if isinstance(schema, Mapping) else {}
    if not schema or (schema.get("type") == "object" and not set(schema) - {"type", "properties", "required", "title",
                                                                           "description", "$schema"}
                      and not schema.get("properties")):  # fmt: skip
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return schema if "type" in schema or "$ref" in schema else {"type": "object", **schema}


def _properties(schema: Schema) -> list[tuple[str, Any, bool]]:
    """Name, schema and whether it is required."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = [name for name in schema.get("required") or () if isinstance(name, str)]
    others = {name: True for name in required if name not in properties}
    return [(name, part, name in required) for name, part in (*properties.items(), *others.items())]


def _open(schema: Schema) -> bool:
    """Whether other keys may come."""
    return bool(schema.get("additionalProperties", not schema.get("properties")))


def _is_text(part: Any) -> bool:
    """Whether a tagged value of this schema is read as text."""
    types = types_of(part)
    return not types or "string" in types


def _tag(tags: Tags, name: str | None, text: bool, writer: Writer) -> list[str]:
    """The tag of a key; any key for None."""
    found = []
    for step in tags.key:
        match step:
            case Exact():
                found.append(writer.literal(step.text))
            case Until():
                found.append(writer.lexeme(_KEY) if name is None else writer.literal(name))
                found.append(writer.literal(step.text))
            case OneOf():
                found.append(writer.literal("true" if text else "false"))
            case _ if not found:
                found.append(writer.gap)
    return found


def _value(tags: Tags, part: Any, schema: Schema, writer: Writer) -> str:
    """A value and its closing tag."""
    closing = writer.literal(tags.value_end)
    choices = _choices(part)
    if choices:
        line = '"\\n"?' if tags.lines else ""
        return f"{line} {any_of([writer.literal(choice) for choice in choices])} {line} {closing}"
    if _is_text(part):
        return writer.until(tags.value_end)
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return f"{writer.gap} {writer.json({**definitions, **part})} {writer.gap} {closing}"


def _choices(part: Any) -> list[str]:
    """The texts of a string that may only be one of them."""
    if not isinstance(part, Mapping):
        return []
    values = [part["const"]] if "const" in part else part.get("enum") or []
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        return []
    return list(values)


class _Bare:
    """Values by a schema; what the schema says beyond kinds, names, choices and items is not enforced."""

    def __init__(self, quote: str, writer: Writer) -> None:
        self._writer = writer
        self._quote, self._spelling = writer.literal(quote), quote

    def object(self, schema: Schema, depth: int) -> str:
        pairs = [(f"{self._key(name)} \":\" {self.value(part, depth + 1)}", needed)
                 for name, part, needed in _properties(schema)]  # fmt: skip
        if pairs:
            return self._writer.rule(f'"{{" {self._members(pairs)} "}}"')
        if not _open(schema):
            return '"{" "}"'
        pair = f'{self._writer.lexeme(_KEY)} ":" {self._any(depth + 1)}'
        return self._writer.rule(f'"{{" ({pair} ("," {pair})*)? "}}"')

    def value(self, schema: Any, depth: int) -> str:
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return self._any(depth)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list) and values and not any(isinstance(value, dict | list) for value in values):
            return any_of([self._constant(value) for value in values])
        kinds = types_of(schema)
        options = [self._kind(kind, schema, depth) for kind in sorted(kinds)]
        return any_of(options) if options else self._any(depth)

    def _kind(self, kind: str, schema: Schema, depth: int) -> str:
        match kind:
            case "object":
                return self.object(schema, depth)
            case "array":
                item = self.value(schema.get("items"), depth + 1)
                return self._writer.rule(f'"[" ({item} ("," {item})*)? "]"')
            case "string":
                return self._string()
        return self._scalar(kind)

    def _any(self, depth: int) -> str:
        """A value of which nothing is known; nested ones only near the surface."""
        options = [self._string(), *(self._scalar(kind) for kind in ("number", "boolean", "null"))]
        if depth < 4:
            options.append(self._kind("array", {"items": True}, depth + 1))
        return any_of(options)

    def _scalar(self, kind: str) -> str:
        found = _SCALARS.get(kind, '"null"')
        return self._writer.lexeme(found) if found.startswith("/") else found

    def _string(self) -> str:
        return self._writer.rule(f"{self._quote} {self._writer.until(self._spelling)}")

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self._quote} {self._writer.literal(value)} {self._quote}"
        return dumped(json.dumps(value))

    def _key(self, name: str) -> str:
        return self._writer.literal(name)

    def _members(self, pairs: Sequence[tuple[str, bool]]) -> str:
        """Pairs and whether each is required: the first that comes has no comma before it."""
        first = next((index for index, (_, needed) in enumerate(pairs) if needed), len(pairs))
        after = [f'"," {pair}' if needed else f'("," {pair})?' for pair, needed in pairs[first + 1 :]]
        heads = [" ".join([pairs[first][0], *after])] if first < len(pairs) else []
        ends = "" if first < len(pairs) else "?"
        for pair, _ in reversed(pairs[:first]):  # optional ones before it: a rule for each that may come first
            rest = f'("," {any_of(heads)}){ends}' if heads else ""
            heads.insert(0, self._writer.rule(f"{pair} {rest}"))
        return f"({any_of(heads)}){ends}"
