"""A client's JSON schema → the schema that llguidance compiles: the texts that fit it fit the client's. ENGINE.md, 8.

An object that names its properties gets no others unless the schema asks for them, as small models would go on and on.
Not enforced: `uniqueItems`, formats that llguidance does not know, and `oneOf` beyond `anyOf`. Keywords that would
need a negation or a condition are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from worker.grammar import GrammarError
from worker.schema_merge import flattened

MAX_SCHEMA = 64 * 1024
MAX_DEPTH = 64
_MAX_MULTIPLE = 1000  # of a million takes llguidance five seconds (measured)
_REFUSED = (
    "not", "if", "then", "else", "propertyNames", "contains", "dependentRequired", "dependentSchemas", "$dynamicRef",
)  # fmt: skip
_IGNORED = ("uniqueItems", "x-guidance", "unevaluatedProperties", "unevaluatedItems", "minContains", "maxContains")
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri", "unknown")
)
_IN_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_IN_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_ALONE = ("items", "additionalProperties", "additionalItems")
# White space as models write it; unbounded, some never write anything else.
_OPTIONS = {"whitespace_pattern": r" |\n[ \t]{0,20}", "coerce_one_of": True}
Schema = dict[str, Any]


def prepared(schema: Any) -> Schema:
    """Raises GrammarError with the path inside the schema; an empty schema means any object."""
    if schema is True:
        return {"x-guidance": _OPTIONS}
    if not isinstance(schema, Mapping):
        raise _error("", "nothing fits false" if schema is False else "no schema")
    if not schema:
        schema = {"type": "object"}
    return {**_Walk(schema).schema(schema, "", alone=True), "x-guidance": _OPTIONS}


def parsed(text: str) -> Any:
    """The schema of a JSON text. Raises GrammarError."""
    if len(text.encode("utf-8", "replace")) > MAX_SCHEMA:
        raise GrammarError(f"the schema is larger than {MAX_SCHEMA} bytes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise GrammarError("the schema is no JSON, or nested too deep") from None


def dumped(schema: Any) -> str:
    """JSON text without lone surrogates, which are no text."""
    return json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace").decode()


def parts(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The schemas inside a prepared one, the deepest first, with their paths."""
    if not isinstance(schema, Mapping):
        return
    for key in (*_IN_MAPS, *_IN_LISTS, *_ALONE):
        found = schema.get(key)
        if key in _ALONE:
            yield from parts(found, f"{path}/{key}")
        elif isinstance(found, Mapping | list):
            pairs = found.items() if isinstance(found, Mapping) else enumerate(found)
            for name, part in pairs:
                yield from parts(part, f"{path}/{key}/{name}")
    yield path, schema


class _Walk:
    """One schema. alone: nothing else is merged with this part, so that it may be closed."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._merged = set(_merged_references(root))

    def schema(self, found: Any, path: str, *, alone: bool, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise _error(path, f"nested more than {MAX_DEPTH} deep")
        if isinstance(found, bool):
            return found
        if not isinstance(found, Mapping):
            raise _error(path, "no schema")
        if refused := [key for key in _REFUSED if found.get(key) or (key == "not" and key in found)]:
            raise _error(f"{path}/{refused[0]}", "not supported")
        _check(found, path)
        found = flattened(found, self._root)
        alone = alone and not _is_merge(found)
        new = {key: value for key, value in found.items() if key not in (*_IGNORED, *_REFUSED)}
        if new.get("format") not in _FORMATS:
            new.pop("format", None)
        if alone:
            _close(new)
        for key in (*_IN_MAPS, *_IN_LISTS, *_ALONE):
            if key in new:
                new[key] = self._inside(new[key], key, f"{path}/{key}", alone, depth + 1)
        return new

    def _inside(self, found: Any, key: str, path: str, alone: bool, depth: int) -> Any:
        if key in ("$defs", "definitions"):
            free = {name: f"#{path}/{name}" not in self._merged for name in found}
            return {name: self.schema(part, f"{path}/{name}", alone=free[name], depth=depth)
                    for name, part in found.items()}  # fmt: skip
        if key in _IN_MAPS:
            return {name: self.schema(part, f"{path}/{name}", alone=alone, depth=depth) for name, part in found.items()}
        if key in _IN_LISTS or isinstance(found, list):  # `items` was a list once
            return [self.schema(part, f"{path}/{at}", alone=alone, depth=depth) for at, part in enumerate(found)]
        return self.schema(found, path, alone=alone, depth=depth)


def _close(new: Schema) -> None:
    """No properties but those that it names."""
    if new.get("properties") and not {"additionalProperties", "patternProperties"} & set(new):
        missing = {name: True for name in new.get("required", ()) if name not in new["properties"]}
        new["properties"] = {**new["properties"], **missing}
        new["additionalProperties"] = False


def _is_merge(schema: Mapping[str, Any]) -> bool:
    """Whether several schemas hold for the same value here."""
    says = {"type", "properties", "required", "patternProperties", "items"} & set(schema)
    listed = schema.get("allOf")
    count = len(listed) if isinstance(listed, list) else 0
    return bool(says) + count + sum(key in schema for key in ("anyOf", "oneOf", "$ref")) > 1


def _merged_references(schema: Any, merged: bool = False, depth: int = 0) -> Iterator[str]:
    """The references whose target is merged with something else."""
    if depth > 2 * MAX_DEPTH:
        return
    if isinstance(schema, Mapping):
        merged = merged or _is_merge(schema)
        if merged and isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for key, value in schema.items():
            yield from _merged_references(value, merged and key not in ("$defs", "definitions"), depth + 1)
    elif isinstance(schema, list):
        for value in schema:
            yield from _merged_references(value, merged, depth + 1)


def _check(schema: Mapping[str, Any], path: str) -> None:
    for key in _IN_MAPS:
        if not isinstance(schema.get(key, {}), Mapping):
            raise _error(f"{path}/{key}", "expected an object")
    for key in _IN_LISTS:
        if key in schema and not (isinstance(schema[key], list) and schema[key]):
            raise _error(f"{path}/{key}", "expected a list that is not empty")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _error(f"{path}/required", "expected a list of strings")
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        raise _error(f"{path}/enum", "expected a list that is not empty")
    if "multipleOf" in schema and not _is_simple(schema["multipleOf"]):
        text = f"expected number > 0 of at most {_MAX_MULTIPLE}, without its decimal point"
        raise _error(f"{path}/multipleOf", text)
    for key in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
        value = schema.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _error(f"{path}/{key}", "expected integer ≥ 0")


def _is_simple(value: Any) -> bool:
    """Whether multiples can be told by few states: as many as the number's digits say."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _MAX_MULTIPLE:
        return False
    digits = Decimal(str(value)).normalize().as_tuple().digits
    return int("".join(map(str, digits))) <= _MAX_MULTIPLE


def _error(path: str, reason: str) -> GrammarError:
    return GrammarError(f"schema, at #{path}: {reason}")
