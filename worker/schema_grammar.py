"""JSON schema → GBNF: the texts it admits fit the schema, though not every text that fits is admitted. ENGINE.md, 8.

Properties come in the schema's order; those that it does not name are only generated if it names none. Not enforced:
`uniqueItems`, `multipleOf`, bounds of numbers and of wide ranges of integers beyond their sign, formats other than
those of _FORMATS. Keywords that would need a negation or a condition are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from worker.gbnf import MAX_REPETITION, GrammarError
from worker.schema_pattern import quoted, translate

MAX_SCHEMA = 64 * 1024
_MAX_DEPTH = 64
_MAX_ENUMERATED = 1000  # integers of a range that are written out
_REFUSED = (
    "not", "if", "then", "else", "patternProperties", "propertyNames", "contains", "dependentRequired",
    "dependentSchemas",
)  # fmt: skip
_BASE = {
    "space": r'| " " | "\n" [ \t]{0,20}',
    "char": r'[^"\\\x00-\x1f\x7f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "natural": '"0" | [1-9] [0-9]{0,15}',
    "integer": '"-"? natural',
    "fraction": 'natural ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "number": '"-"? fraction',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" space (member ("," space member)* space)? "}"',
    "member": 'string ":" space value',
    "array": '"[" space (value ("," space value)* space)? "]"',
}
_NEEDS = {
    "string": ("char",),
    "integer": ("natural",),
    "fraction": ("natural",),
    "number": ("fraction",),
    "value": ("object", "array", "string", "number", "boolean", "null"),
    "object": ("space", "member"),
    "member": ("string", "space", "value"),
    "array": ("space", "value"),
}
_DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])'
_CLOCK = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
_TIME = f'{_CLOCK} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [+-] {_CLOCK})'
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
}
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_KEYS_OF = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
}


def grammar(schema: Any) -> str:
    """The grammar of a schema; an empty one means any object. Raises GrammarError with the path inside the schema."""
    return _Converter({"type": "object"} if schema == {} else schema).text()


class _Converter:
    """One schema; its rules come into being as the schema is walked."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._refs: dict[str, str] = {}
        self._number = 0

    def text(self) -> str:
        root = self._visit(self._schema, "", 0)
        rules = {"root": root} | self._rules
        return "\n".join(f"{name} ::= {body}" for name, body in rules.items())

    # -- rules --------------------------------------------------------------------------------------------------------

    def _base(self, name: str) -> str:
        if name not in self._rules:
            self._rules[name] = _BASE[name]
            for needed in _NEEDS.get(name, ()):
                self._base(needed)
        return name

    def _rule(self, body: str) -> str:
        self._number += 1
        name = f"r{self._number}"
        self._rules[name] = body
        return name

    # -- the walk -----------------------------------------------------------------------------------------------------

    def _visit(self, schema: Any, path: str, depth: int) -> str:
        """The body of a rule for this schema; alternatives are in brackets."""
        if depth > _MAX_DEPTH:
            raise _error(path, f"nested more than {_MAX_DEPTH} deep")
        if schema is True or schema == {}:
            return self._base("value")
        if not isinstance(schema, Mapping):
            raise _error(path, "no schema" if schema is not False else "nothing fits false")
        if refused := [key for key in _REFUSED if schema.get(key) or (key == "not" and key in schema)]:
            raise _error(f"{path}/{refused[0]}", "not supported")
        _check_shape(schema, path)
        if "$ref" in schema:
            return self._ref(schema["$ref"], path, depth)
        if "const" in schema:
            return quoted(_json(schema["const"]))
        if "enum" in schema:
            return self._any([quoted(_json(value)) for value in _list(schema["enum"], f"{path}/enum")])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                rest = {name: value for name, value in schema.items() if name != key}
                options = []
                for number, option in enumerate(_list(schema[key], f"{path}/{key}")):
                    place = f"{path}/{key}/{number}"
                    options.append(self._visit(self._merged(rest, option, place, depth), place, depth + 1))
                return self._any(options)
        if "allOf" in schema:
            merged: Mapping[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
            for number, part in enumerate(_list(schema["allOf"], f"{path}/allOf")):
                merged = self._merged(merged, part, f"{path}/allOf/{number}", depth)
            return self._visit(merged, path, depth + 1)
        return self._typed(schema, path, depth)

    def _typed(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        kind = schema.get("type")
        if kind is None:
            kind = next((name for name, keys in _KEYS_OF.items() if any(key in schema for key in keys)), "value")
        if isinstance(kind, list):
            kinds = _list(kind, f"{path}/type")
            return self._any([self._visit({**schema, "type": each}, path, depth + 1) for each in kinds])
        match kind:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "string":
                return self._string(schema, path)
            case "integer" | "number":
                return self._number_of(schema, kind, path)
            case "boolean" | "null" | "value":
                return self._base(kind)
        raise _error(f"{path}/type", f"expected one of {', '.join(_TYPES)}, got {_json(kind)[:40]}")

    def _any(self, options: Sequence[str]) -> str:
        options = list(dict.fromkeys(options))
        return options[0] if len(options) == 1 else f"({' | '.join(options)})"

    def _ref(self, ref: Any, path: str, depth: int) -> str:
        if not isinstance(ref, str) or ref not in self._refs:
            target = self._target(ref, path)
            self._number += 1
            self._refs[ref] = name = f"r{self._number}"
            self._rules[name] = ""  # its place: the body may refer to it
            self._rules[name] = self._visit(target, str(ref).removeprefix("#"), depth + 1)
        return self._refs[ref]

    def _target(self, ref: Any, path: str) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise _error(f"{path}/$ref", "only references inside the schema, like #/$defs/x, are supported")
        found = self._schema
        for part in ref.removeprefix("#").split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, Mapping) and part in found:
                found = found[part]
            else:
                raise _error(f"{path}/$ref", f"there is no {ref}")
        return found

    def _merged(self, one: Mapping[str, Any], other: Any, path: str, depth: int) -> Mapping[str, Any]:
        """Both together; what both say in different words is the other's."""
        for _ in range(_MAX_DEPTH - min(depth, _MAX_DEPTH)):
            if not (isinstance(other, Mapping) and "$ref" in other and _says(one)):
                break
            target = self._target(other["$ref"], path)
            if isinstance(target, Mapping):
                target = {**target, **{name: value for name, value in other.items() if name != "$ref"}}
            other = target
        if other is True:
            other = {}
        if not isinstance(other, Mapping):
            raise _error(path, "nothing fits false" if other is False else "no schema")
        _check_shape(other, path)
        if not _says(one):
            return other
        merged = {**one, **other}
        if "properties" in one and "properties" in other:
            merged["properties"] = {**one["properties"], **other["properties"]}
        if "required" in one and "required" in other:
            merged["required"] = [*one["required"], *other["required"]]
        return merged

    # -- kinds --------------------------------------------------------------------------------------------------------

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        properties, required = schema.get("properties") or {}, schema.get("required") or []
        space = self._base("space")
        others = {name: True for name in required if name not in properties}
        if not properties and not others:
            return self._map(schema, path, depth)
        pairs = []
        for name, part in (*properties.items(), *others.items()):
            body = self._visit(part, f"{path}/properties/{name}", depth + 1)
            pairs.append((f'{quoted(_json(name))} ":" {space} {body}', name in required))
        return self._rule(f'"{{" {space} {self._members(pairs)} {space} "}}"')

    def _members(self, pairs: list[tuple[str, bool]]) -> str:
        """Pairs and whether each is required: the first that comes has no comma before it."""
        first = next((index for index, (_, needed) in enumerate(pairs) if needed), len(pairs))
        after = [f'"," space {pair}' if needed else f'("," space {pair})?' for pair, needed in pairs[first + 1 :]]
        heads = [" ".join([pairs[first][0], *after])] if first < len(pairs) else []
        for pair, _ in reversed(pairs[:first]):  # optional ones before it: a rule for each that may come first
            rest = f'("," space {self._any(heads)}){"" if first < len(pairs) else "?"}' if heads else ""
            heads.insert(0, self._rule(f"{pair} {rest}"))
        return self._any(heads) + ("" if first < len(pairs) else "?")

    def _map(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        extra = schema.get("additionalProperties", True)
        if extra is False:
            return '"{" space "}"'
        value = self._visit(extra, f"{path}/additionalProperties", depth + 1)
        pair = f'{self._base("string")} ":" space {value}'
        low, high = _bounds(schema, "minProperties", "maxProperties", path)
        return self._rule(f'"{{" space {self._repeated(pair, low, high)} "}}"')

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> str:
        space = self._base("space")
        items, prefix = schema.get("items", True), schema.get("prefixItems")
        if isinstance(items, list):
            items, prefix = schema.get("additionalItems", True), items
        low, high = _bounds(schema, "minItems", "maxItems", path)
        if prefix:
            parts = _list(prefix, f"{path}/prefixItems")[:high]
            if low > len(parts):
                raise _error(f"{path}/minItems", f"more than the {len(parts)} prefixItems is not supported")
            found = [self._visit(part, f"{path}/prefixItems/{number}", depth + 1) for number, part in enumerate(parts)]
            comma = f' "," {space} '
            return self._rule(f'"[" {space} {comma.join(found)} {space} "]"')
        if high == 0 or items is False:
            if low:
                raise _error(f"{path}/minItems", "nothing fits")
            return f'"[" {space} "]"'
        item = self._visit(items, f"{path}/items", depth + 1)
        return self._rule(f'"[" {space} {self._repeated(item, low, high)} "]"')

    def _repeated(self, item: str, low: int, high: int | None) -> str:
        """Items with commas between them, white space at their end."""
        if high == 0:
            return ""
        if len(item) > 40:
            item = self._rule(item)
        least, most = max(low - 1, 0), "" if high is None else str(high - 1)
        found = f'{item} ("," space {item}){{{least},{most}}} space'
        return found if low else f"({found})?"

    def _string(self, schema: Mapping[str, Any], path: str) -> str:
        if (pattern := schema.get("pattern")) is not None:
            return f'"\\"" {translate(pattern, f"{path}/pattern")} "\\""'
        if (body := _FORMATS.get(str(schema.get("format")))) is not None:
            return f'"\\"" {body} "\\""'
        low, high = _bounds(schema, "minLength", "maxLength", path)
        if not low and high is None:
            return self._base("string")
        return f'"\\"" {self._base("char")}{{{low},{"" if high is None else high}}} "\\""'

    def _number_of(self, schema: Mapping[str, Any], kind: str, path: str) -> str:
        low, high = _edge(schema, "minimum", "exclusiveMinimum", 1), _edge(schema, "maximum", "exclusiveMaximum", -1)
        if kind == "integer" and low is not None and high is not None:
            numbers = range(-int(-low // 1), int(high // 1) + 1)
            if not numbers:
                raise _error(path, "no integer fits")
            if len(numbers) <= _MAX_ENUMERATED:
                return self._any([quoted(str(number)) for number in numbers])
        if low is not None and low >= 0:
            return self._base("natural" if kind == "integer" else "fraction")
        return self._base(kind)


def _check_shape(schema: Mapping[str, Any], path: str) -> None:
    if not isinstance(schema.get("properties", {}), Mapping):
        raise _error(f"{path}/properties", "expected an object")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _error(f"{path}/required", "expected a list of strings")


def _says(schema: Mapping[str, Any]) -> bool:
    """Whether a schema restricts anything, beside what describes it."""
    return bool(set(schema) - {"title", "description", "default", "examples", "$defs", "definitions", "$schema", "$id"})


def _edge(schema: Mapping[str, Any], inclusive: str, exclusive: str, step: int) -> float | None:
    """The bound of a number; an exclusive one moves by one for whole bounds, as for integers it must."""
    for key, by in ((exclusive, step), (inclusive, 0)):
        value = schema.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value + by if value == int(value) else value
    return None


def _bounds(schema: Mapping[str, Any], least: str, most: str, path: str) -> tuple[int, int | None]:
    """How many; a maximum beyond what a grammar can count is that."""
    low, high = schema.get(least) or 0, schema.get(most)
    for key, value in ((least, low), (most, 0 if high is None else high)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _error(f"{path}/{key}", "expected integer ≥ 0")
    if low > MAX_REPETITION:
        raise _error(f"{path}/{least}", f"expected at most {MAX_REPETITION}")
    if high is not None and high < low:
        raise _error(f"{path}/{most}", f"expected at least {least} ({low}), got {high}")
    return low, None if high is None else min(high, MAX_REPETITION)


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _error(path, "expected a list that is not empty")
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _error(path: str, reason: str) -> GrammarError:
    return GrammarError(f"schema, at #{path}: {reason}")
