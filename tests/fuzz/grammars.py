"""JSON schemas and GBNF of clients: prepared, or refused with GrammarError, before any grammar engine sees them."""

from __future__ import annotations

import json

from tests.fuzz import engine
from worker import gbnf
from worker.grammar import GrammarError
from worker.json_schema import dumped, parsed, prepared

_SCHEMA = {
    "type": "object", "required": ["a"], "additionalProperties": False,
    "properties": {
        "a": {"type": "integer", "minimum": 1, "multipleOf": 3}, "b": {"$ref": "#/$defs/d"},
        "c": {"anyOf": [{"type": "string", "pattern": "^a+$"}, {"const": None}]},
        "e": {"type": "array", "items": {"enum": [1, "x"]}, "minItems": 1, "prefixItems": [{}]},
    },
    "$defs": {"d": {"allOf": [{"type": "number"}, {"maximum": 5.5}], "format": "date"}},
}  # fmt: skip
CORPUS = [
    json.dumps(_SCHEMA).encode(),
    b'{"$ref":"#","allOf":[{"$ref":"#"}]}',
    b'root ::= item{1,3} | "a" [b-z]+ ("c" | <|x|>)*\nitem ::= "\\"" [^"\\\\]* "\\"" # end\n',
]
WORDS = [
    b'"$ref":', b'"#/$defs/d"', b'"not":', b'"allOf":', b"[[", b"}}", b"true", b"false", b"null", b"1e400", b"-0",
    b'"\\ud800"', b"::=", b"root", b"(", b")", b'"', b"{5,2}", b"{9999}", b"|", b"\n", b"\xff", b'"properties":',
]  # fmt: skip


def fuzz(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        dumped(prepared(parsed(text)))
    except GrammarError:
        pass
    try:
        gbnf.check(text)
    except GrammarError:
        pass


def run(count: int, seed: int) -> str:
    return engine.run("grammars", fuzz, CORPUS, WORDS, count, seed)
