"""JSON schemas of the types that requests are read into and answers are described by.

A request's schema says what supervisor.schema.convert takes: null stands for absent wherever a field may be absent.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, UnsetType

from proxy.description.words import WORDS
from proxy.dialects.keep_alive import KeepAlive, Ttl
from supervisor.samplers import Breakers, LogitBias, Samplers
from supervisor.schema import Parsed

Schema = dict[str, Any]
_STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
_PAIR: Schema = {"type": "array", "prefixItems": [{"type": ["integer", "string"]}, {"type": ["number", "boolean"]}]}
_PAIRS: Schema = {"type": "array", "items": _PAIR | {"minItems": 2, "maxItems": 2}}
_SPELLED: dict[Any, Schema] = {  # types whose text form is parsed
    KeepAlive: {"type": ["number", "string"]},
    Ttl: {"type": "number", "minimum": 0},
    Samplers: {"anyOf": [_STRINGS, {"type": "string"}]},
    Breakers: _STRINGS | {"minItems": 1},
    LogitBias: {"anyOf": [_PAIRS, {"type": "object"}]},
}
_SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "pattern": "pattern"}
_FIRST = ("model", "stream", "max_tokens", "stop", "temperature", "tools", "tool_choice", "response_format")
_LENGTHS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


class Schemas:
    """Turns types into schemas; structs become components, to which the schemas refer."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self.responses: dict[str, Schema] = {}  # whole ones, which many routes share
        self._names: dict[tuple[Any, bool], str] = {}

    def of(self, kind: Any, *, request: bool = False) -> Schema:
        """The schema of a type; a mapping is one already."""
        if isinstance(kind, Mapping):
            return dict(kind)
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._annotated(kind, args, request)
        if origin is Literal:
            return {"const": args[0]} if len(args) == 1 else {"enum": list(args)}
        if origin in (Union, types.UnionType):
            return self._union(args, request)
        if origin in (list, tuple):
            return {"type": "array", "items": self.of(args[0], request=request)}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(args[1], request=request)}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return {"$ref": f"#/components/schemas/{self._component(kind, request)}"}
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"type": "string", "enum": [str(member.value) for member in kind]}
        return dict(_SIMPLE[kind])

    def body(self, name: str, kinds: tuple[type[msgspec.Struct], ...], instead: Mapping[str, Any]) -> Schema:
        """What several structs read, each its part. `instead`: what a field may hold, if a type says less."""
        properties: dict[str, Schema] = {}
        required: dict[str, None] = {}
        for kind in kinds:
            found = self._object(kind, True, instead)
            properties = found["properties"] | properties
            required |= dict.fromkeys(found.get("required", ()))
        order = sorted(properties, key=lambda field: _rank(field, required))
        found = {"type": "object", "properties": {field: properties[field] for field in order}}
        self.components[name] = found | ({"required": list(required)} if required else {})
        return {"$ref": f"#/components/schemas/{name}"}

    # -- inside -------------------------------------------------------------------------------------------------------

    def _component(self, kind: type[msgspec.Struct], request: bool) -> str:
        if (known := self._names.get((kind, request))) is not None:
            return known
        name = self._free(kind)
        self._names[kind, request] = name
        self.components[name] = {}  # its place, as it may refer to itself
        self.components[name] = self._object(kind, request, {})
        return name

    def _free(self, kind: type) -> str:
        """Structs of several dialects have the same name: the second one's module goes before it."""
        if kind.__name__ not in self.components:
            return kind.__name__
        found = "".join(word.title() for word in kind.__module__.rpartition(".")[2].split("_")) + kind.__name__
        assert found not in self.components, f"two structs {kind.__module__}.{kind.__name__}"
        return found

    def _object(self, kind: type[msgspec.Struct], request: bool, instead: Mapping[str, Any]) -> Schema:
        hints = get_type_hints(kind, include_extras=True)
        properties: dict[str, Schema] = {}
        required = []
        for field in msgspec.structs.fields(kind):
            name = field.encode_name
            found = self.of(instead.get(name, hints[field.name]), request=request)
            if field.required:
                required.append(name)
            elif request:
                found = nullable(found)
            properties[name] = found | _default(field.default) | (_said(name) if request else {})
        document = kind.__dict__.get("__doc__")
        text = {"description": document.partition("\n\n")[0].replace("\n    ", " ")} if document else {}
        return {"type": "object", **text, "properties": properties} | ({"required": required} if required else {})

    def _union(self, args: tuple[Any, ...], request: bool) -> Schema:
        options = [self.of(arg, request=request) for arg in args if arg is not UnsetType]
        if len(options) == 1:
            return options[0]
        if all(option.keys() == {"type"} and isinstance(option["type"], str) for option in options):
            return {"type": [option["type"] for option in options]}
        return {"anyOf": options}

    def _annotated(self, kind: Any, args: tuple[Any, ...], request: bool) -> Schema:
        for mark in args[1:]:
            if isinstance(mark, Parsed):
                return dict(_SPELLED[kind])
        found = self.of(args[0], request=request)
        for mark in args[1:]:
            if isinstance(mark, Meta):
                found |= {word: value for name, word in _BOUNDS.items() if (value := getattr(mark, name)) is not None}
                least, most = _LENGTHS.get(str(found.get("type")), ("minLength", "maxLength"))
                found |= {} if mark.min_length is None else {least: mark.min_length}
                found |= {} if mark.max_length is None else {most: mark.max_length}
        return found


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    kind = schema.get("type")
    if not schema or kind == "null" or (isinstance(kind, list) and "null" in kind):
        return schema
    if kind is not None and "enum" not in schema:
        return schema | {"type": [*(kind if isinstance(kind, list) else [kind]), "null"]}
    if "anyOf" in schema:
        return schema if {"type": "null"} in schema["anyOf"] else {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]}


def _default(value: Any) -> Schema:
    """What counts where the field is absent, if that can be said in a word."""
    plain = isinstance(value, bool | int | float | str) and value != ""
    return {"default": value} if plain and value not in (NODEFAULT, UNSET) else {}


def _said(name: str) -> Schema:
    return {"description": WORDS[name]} if name in WORDS else {}


def _rank(name: str, required: Mapping[str, None]) -> tuple[bool, int]:
    """Those that must be there, then what most requests say; the rest as it comes."""
    return name not in required, _FIRST.index(name) if name in _FIRST else len(_FIRST)
