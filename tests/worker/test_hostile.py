"""Grammars that would end, stall or fill the process: refused or survived, in processes of their own. ENGINE.md, 17."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

_MODEL = """
import json, sys
from tests import models
from tests.worker.test_engine import Bench
from worker import binding
from worker.failure import RequestError
from worker.native_grammar import NativeGrammar
from worker.protocol import Generate, Text

bench = Bench(models.tiny(), n_ctx=64, parallel=1)
vocabulary, text = bench.model._context.model.vocabulary, bench.model.text
"""
_UNGUARDED = {
    "a token that the grammar refuses": (
        "rules = NativeGrammar(b'root ::= \"a\"', vocabulary); binding.sampler_accept(rules._handle, 66)",
        signal.SIGABRT,
    ),
    "20,000 brackets": (
        "NativeGrammar(b'root ::= ' + b'(' * 20000 + b'\"a\"' + b')' * 20000, vocabulary)",
        signal.SIGSEGV,
    ),
}
_ANY_OF = [{"anyOf": [{"type": "string", "pattern": f"^[a-{chr(98 + j)}]{{{i},}}"} for j in range(9)]}
           for i in range(1, 12)]  # fmt: skip
_REFUSED: list[dict[str, Any]] = [
    {"grammar": 'root ::= "a"{5,2}'},
    {"grammar": "root ::= " + "(" * 20000 + '"a"' + ")" * 20000},
    {"grammar": "root ::= root"},
    {"grammar": 'root ::= "' + "a" * 70000 + '"'},
    {"json_schema": '{"items":' * 3000 + "{}" + "}" * 3000},
    {"json_schema": json.dumps({"type": "string", "pattern": "(" * 5000 + "a" + ")" * 5000})},
    {"json_schema": json.dumps({"type": "integer", "multipleOf": 999983})},
    {"json_schema": json.dumps({"type": "integer", "multipleOf": 1000000})},
    {"json_schema": json.dumps({"allOf": _ANY_OF})},
    {"json_schema": json.dumps({"type": "object", "properties": {f"k{at}": {} for at in range(9000)}})},
]
_SURVIVED = [
    {"type": "string", "pattern": "(.*a.{100}|.*b.{101}|.*c.{99})x"},
    {"type": "string", "pattern": "(a{1,1000}){1,1000}"},
    {"type": "string", "minLength": 300000},
    {"$defs": {f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(40)} | {"d40": {}},
     "$ref": "#/$defs/d0"},
    {"type": "array", "items": {"type": "array", "minItems": 60000}, "minItems": 60000},
]  # fmt: skip


def child(code: str, data: object = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _MODEL + code]
    return subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", _UNGUARDED)
def test_without_the_check_the_process_ends(name: str) -> None:
    code, number = _UNGUARDED[name]
    assert child(code).returncode == -number


def test_what_is_hostile_is_refused_with_a_reason() -> None:
    found = child(
        """
for request in json.load(sys.stdin):
    try:
        text.check(Generate(1, "r", Text(("x",)), **request))
        print("taken", str(request)[:80])
    except RequestError as error:
        assert error.code == "invalid_grammar", error
        print("refused")
""",
        _REFUSED,
    )
    assert (found.returncode, found.stdout.split()) == (0, ["refused"] * len(_REFUSED)), found.stderr


def test_what_is_only_large_ends_at_a_limit_and_not_with_the_process() -> None:
    found = child(
        """
from supervisor.config import Sampling
for schema in json.load(sys.stdin):
    bench.new()
    id = bench.start("x", Sampling(seed=1, max_tokens=60), json_schema=json.dumps(schema))
    bench.run()
    print(type([event for event in bench.events if event.id == id][-1]).__name__)
""",
        _SURVIVED,
    )
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) <= {"Finished", "Failed"}
    assert len(found.stdout.split()) == len(_SURVIVED)
