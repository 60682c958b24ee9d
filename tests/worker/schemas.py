"""JSON schemas of many kinds, with texts that fit them and texts that do not: for the tests and the benchmark.

Properties stand in the schema's order, as every engine of grammars demands.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    schema: Any
    good: tuple[str, ...]
    bad: tuple[str, ...] = ()


_NODE = {"type": "object", "properties": {"value": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}}}
_A, _B = {"type": "null"}, {"type": "boolean"}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b", 5, None]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
}

CASES: dict[str, Case] = {
    "any object": Case(
        {}, ("{}", '{"a": [1, -2.5e3, "x\\n", null, true]}', '{ "a":{}}'), ("[]", "1", '{"a"}', "{,}", '{"a":1,}')
    ),
    "anything": Case(True, ("{}", "[1]", '"x"', "null", "-1.5"), ("", "nul", "[1")),
    "person": Case(
        PERSON,
        ('{"name":"x","age":120,"tags":["a"]}', '{ "name": "ö", "age": 0,\n  "tags": [5, null, "b"]}'),
        ('{"name":"x","age":121,"tags":["a"]}', '{"age":1,"name":"x","tags":["a"]}', '{"name":"","age":1,"tags":["a"]}',
         '{"name":"x","age":1,"tags":[]}', '{"name":"x","age":1}', '{"name":"x","age":1,"tags":["a"],"z":1}'),
    ),
    "all optional": Case(
        {"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "type": "object"},
        ("{}", '{"a":1}', '{"c":3}', '{"a":1,"c":3}', '{"b":2,"c":3}', '{"a":1,"b":2,"c":3}'),
        ('{"b":2,"a":1}', '{"a":2}', '{,"a":1}', '{"a":1,}'),
    ),
    "one required": Case(
        {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "required": ["b"]},
        ('{"b":2}', '{"a":1,"b":2}', '{"b":2,"c":3}'), ("{}", '{"a":1}', '{"a":1,"c":3}'),
    ),
    "required but not described": Case(
        {"type": "object", "properties": {"a": _A}, "required": ["a", "z"]}, ('{"a":null,"z":[1]}',), ('{"a":null}',)
    ),
    "closed": Case(
        {"type": "object", "properties": {"a": _A}, "additionalProperties": False}, ('{"a":null}', "{}"), ('{"b":1}',)
    ),
    "open": Case(
        {"type": "object", "properties": {"a": _A}, "additionalProperties": {"type": "integer"}},
        ('{"a":null,"b":1,"c":2}', '{"b":1}'), ('{"a":null,"b":"x"}',),
    ),
    "map": Case({"type": "object", "additionalProperties": {"type": "integer"}},
                ("{}", '{"x":1,"y":2}'), ('{"x":"y"}',)),
    "map of two or more": Case(
        {"type": "object", "additionalProperties": _A, "minProperties": 2, "maxProperties": 3},
        ('{"x":null,"y":null}',), ('{"x":null}', "{}"),
    ),
    "pattern properties": Case(
        {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False},
        ('{"x_a":1}', "{}"), ('{"x_a":"y"}', '{"y":1}'),
    ),
    "recursive": Case(
        {"$ref": "#/$defs/node", "$defs": {"node": _NODE}},
        ("{}", '{"value":true,"next":{"next":{"value":false}}}'), ('{"next":1}', '{"value":1}'),
    ),
    "recursive at the root": Case(
        {"type": "object", "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#"}}}},
        ('{"v":1,"kids":[{"v":2},{"kids":[]}]}',), ('{"kids":[1]}',),
    ),
    "definitions": Case(
        {"definitions": {"a": {"type": "string"}}, "type": "array", "items": {"$ref": "#/definitions/a"}},
        ('["x","y"]', "[]"), ("[1]",),
    ),
    "types": Case({"type": ["string", "null"]}, ('"x"', "null"), ("1", "true")),
    "any of": Case({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, ("-5", "true"), ("5.5", '"x"', "05")),
    "one of with siblings": Case(
        {"type": "object", "properties": {"a": _A, "b": _A}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        ('{"a":null}', '{"b":null}'), ("{}",),
    ),
    "discriminated": Case(
        {"oneOf": [
            {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}},
             "required": ["kind", "lives"]},
            {"type": "object", "properties": {"kind": {"const": "dog"}, "good": {"type": "boolean"}},
             "required": ["kind", "good"]},
        ]},
        ('{"kind":"cat","lives":9}', '{"kind":"dog","good":true}'), ('{"kind":"dog","lives":9}',),
    ),
    "all of": Case(
        {"allOf": [{"type": "object", "properties": {"a": _A}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
         "$defs": {"b": {"type": "object", "properties": {"b": True}, "required": ["b"]}}},
        ('{"a":null,"b":7}',), ('{"a":null}', '{"a":1,"b":7}'),
    ),
    "all of one reference": Case(
        {"type": "object", "properties": {"x": {"allOf": [{"$ref": "#/$defs/b"}], "description": "wrapped"}},
         "required": ["x"], "$defs": {"b": {"type": "object", "properties": {"b": _B}, "required": ["b"]}}},
        ('{"x":{"b":true}}',), ('{"x":{}}', '{"x":{"b":1}}', '{"x":{"b":true,"z":1}}'),
    ),
    "optional of pydantic": Case(
        {"type": "object", "properties": {"x": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None,
                                                "title": "X"}}, "title": "M"},
        ('{"x":3}', '{"x":null}', "{}"), ('{"x":"3"}',),
    ),
    "enum of strings": Case({"enum": ["red", "green"]}, ('"red"', '"green"'), ('"blue"', "red")),
    "enum of anything": Case({"enum": ["a", 5, None, [1], {"k": "v"}]}, ('"a"', "5", "null"), ("6", "[2]")),
    "typed enum": Case({"type": "string", "enum": ["a", "b"]}, ('"a"',), ("1", '"c"')),
    "const object": Case({"const": {"k": ['"', "\\", "ö"]}}, ('{"k":["\\"","\\\\","ö"]}',), ('{"k":[]}',)),
    "pattern": Case(
        {"type": "string", "pattern": "^[a-c]{2,3}-\\d+(x|\\.y)?$"},
        ('"ab-1"', '"abc-12.y"'), ('"a-1"', '"ab-"', '"ab-1z"'),
    ),
    "pattern not anchored": Case({"type": "string", "pattern": "b+"}, ('"abba"', '"b"'), ('"a"', '""')),
    "pattern with quotes": Case({"type": "string", "pattern": '^[^x]"\\\\$'}, ('"a\\"\\\\"',), ('"x\\"\\\\"',)),
    "pattern of words": Case(
        {"type": "string", "pattern": "^\\w+\\s\\S+$"}, ('"ab c!"',), ('"ab"', '" c"')
    ),
    "pattern and length": Case(
        {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 3}, ('"ab"', '"abc"'), ('"a"', '"abcd"')
    ),
    "length": Case({"type": "string", "minLength": 2, "maxLength": 4}, ('"ab"', '"abcd"', '"ööö"'), ('"a"', '"abcde"')),
    "long length": Case({"type": "string", "maxLength": 10000}, ('"ab"', '""'), ("1",)),
    "date-time": Case({"type": "string", "format": "date-time"}, ('"2024-02-29T23:59:59.5Z"',),
                      ('"2024-13-01T00:00:00Z"',)),
    "date": Case({"type": "string", "format": "date"}, ('"2024-02-29"',), ('"2024-2-29"', '"x"')),
    "uuid": Case({"type": "string", "format": "uuid"}, ('"123e4567-e89b-12d3-a456-426614174000"',), ('"123"',)),
    "email": Case({"type": "string", "format": "email"}, ('"a@example.org"',), ('"a"',)),
    "ipv4": Case({"type": "string", "format": "ipv4"}, ('"127.0.0.1"',), ('"127.0.0"', '"300.0.0.1"')),
    "unknown format": Case({"type": "string", "format": "password"}, ('"x"',), ("1",)),
    "integer range": Case({"type": "integer", "minimum": -5, "maximum": 1200},
                          ("-5", "0", "999", "1200"), ("-6", "1201", "1.0", "01")),
    "wide integer range": Case({"type": "integer", "minimum": 10, "maximum": 123456789}, ("10", "123456789"),
                               ("9", "123456790")),
    "exclusive range": Case({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
                            ("1", "9"), ("0", "10")),
    "positive number": Case({"type": "number", "minimum": 0}, ("0", "0.5", "10"), ("-1", ".5", "1.")),
    "number range": Case({"type": "number", "minimum": 0.5, "maximum": 1.5}, ("0.5", "1", "1.25"), ("0.4", "1.6", "2")),
    "number": Case({"type": "number"}, ("-1", "0.25", "1e10", "2.5E-3"), ("01", "1.", "+1", "NaN")),
    "multiple of": Case({"type": "integer", "multipleOf": 5}, ("5", "0", "125"), ("3", "126")),
    "tuple": Case(
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ('[1, "x"]',), ("[1]", '["x",1]', '[1,"x",2]'),
    ),
    "empty array": Case({"type": "array", "maxItems": 0}, ("[]",), ("[1]",)),
    "counted array": Case({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
                          ("[1,2]", "[1, 2, 3]"), ("[1]", "[1,2,3,4]")),
    "nested arrays": Case({"type": "array", "items": {"type": "array", "items": _B}}, ("[[],[true,false]]",), ("[1]",)),
    "unique items": Case({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ("[1,2]",), ('["x"]',)),
    "annotations": Case(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.org/x", "title": "T",
         "description": "d", "type": "object", "properties": {"a": {"type": "string", "description": "x",
         "examples": ["y"], "default": "z", "deprecated": True, "readOnly": True, "x-order": 1}}, "required": ["a"]},
        ('{"a":"q"}',), ("{}",),
    ),
    "tool": Case(
        {"type": "object", "properties": {
            "location": {"type": "string", "description": "City and country"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            "days": {"type": "array", "items": {"type": "object", "properties": {
                "date": {"type": "string", "format": "date"}, "hours": {"type": "array", "items": {"type": "integer"}}},
                "required": ["date"]}}},
         "required": ["location"]},
        ('{"location":"Bern"}',
         '{"location": "Bern", "unit": "celsius", "days": [{"date": "2024-01-01", "hours": [1]}]}'),
        ('{"unit":"celsius"}', '{"location":"Bern","unit":"kelvin"}', '{"location":"Bern","days":[{}]}'),
    ),
}  # fmt: skip
