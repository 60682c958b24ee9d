"""Grammars and schemas: what is refused and why, and that what the model says fits."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from supervisor.config import LLAMA_DEFAULTS, Sampling
from tests import models
from tests.worker.test_engine import Bench
from worker import gbnf, grammar
from worker.failure import RequestError
from worker.gbnf import GrammarError
from worker.protocol import Chat, Failed, Generate, Text
from worker.sampling import Candidates, Sampler


@pytest.fixture(scope="module")
def smollm() -> Bench:
    return Bench(models.smollm(), n_ctx=512)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("root ::= x", "line 1: there is no rule x"),
        ('\n\nroot ::= "a"\nx ::= (y)', "line 4: there is no rule y"),
        ('x ::= "a"', "no rule root"),
        ("", "no rule root"),
        ('root ::= "a', "line 1: a string that does not end"),
        ("root ::= [a", "line 1: a set of characters"),
        ('root ::= "a"{5,2}', "two numbers in order"),
        ('root ::= "a"{2001}', "at most 2000"),
        ('root ::= "a"{99999999999999999999}', "expected {n}"),
        ("root ::= " + "(" * 20000 + '"a"' + ")" * 20000, "64 brackets deep"),
        ('root ::= ("a"', "a ) is missing"),
        ('root ::= "a")', "a ) too many"),
        ('root ::= "a"\0', "unexpected"),
        ("root ::= root", "llama.cpp"),
        ('root ::= ("")*', "llama.cpp"),
        ('root ::= "\\q"', "llama.cpp"),
        ("root ::= \ud800", "unexpected"),
        ("\n".join(f'r{number} ::= "a"' for number in range(201)) + "\nroot ::= r1", "200 rules"),
        ('root ::= "' + "a" * 70000 + '"', "larger than"),
    ],
)
def test_a_wrong_grammar_is_refused_with_its_reason(smollm: Bench, text: str, reason: str) -> None:
    with pytest.raises(RequestError, match=re.escape(reason)) as caught:
        smollm.model.text.check(Generate(1, "r", Text(("x",)), grammar=text or " "))
    assert (caught.value.code, caught.value.fields["param"]) == ("invalid_grammar", "grammar")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "thing"}, "#/type"),
        ({"properties": {"a": {"not": {}}}}, "#/properties/a/not"),
        ({"$ref": "#/$defs/x"}, "there is no #/$defs/x"),
        ({"$ref": "http://x/y"}, "inside the schema"),
        ({"$ref": "#"}, "llama.cpp"),
        ({"allOf": [{"$ref": "#"}]}, "llama.cpp"),
        ({"allOf": [{"type": "object"}, {"$ref": "#"}]}, "json_schema: "),
        ({"anyOf": [{"required": 5}]}, "#/anyOf/0/required"),
        ({"enum": []}, "#/enum"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "#/maxItems"),
        ({"type": "string", "minLength": 3000}, "#/minLength"),
        ({"type": "string", "pattern": "(?=x)"}, "#/pattern"),
        ({"type": "string", "pattern": "(x"}, "a ) is missing"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "no integer fits"),
        ({"properties": {"a": False}}, "nothing fits"),
        ({"properties": []}, "#/properties"),
        (5, "no schema"),
        ({"description": "x" * 70000}, "larger than"),
    ],
)
def test_a_wrong_schema_is_refused_with_its_place(smollm: Bench, schema: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=re.escape(reason)) as caught:
        smollm.model.text.check(Generate(1, "r", Text(("x",)), json_schema=json.dumps(schema)))
    assert (caught.value.code, caught.value.fields["param"]) == ("invalid_grammar", "json_schema")


_PARTS = ["type", "object", "array", "string", "properties", "items", "required", "a", "enum", "anyOf", "allOf", "$ref"]
_PARTS += ["#", "#/a", "const", "pattern", "^a(", "[b", "minItems", "maxLength", "minimum", "integer", "prefixItems"]


def noise(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(6 if depth < 4 else 3)
    if kind >= 4:
        return {rng.choice(_PARTS): noise(rng, depth + 1) for _ in range(rng.randrange(4))}
    if kind == 3:
        return [noise(rng, depth + 1) for _ in range(rng.randrange(3))]
    return rng.choice([rng.choice(_PARTS), rng.choice(_PARTS), 5, -1.5, True, False, None, {}])


def test_no_schema_whatsoever_raises_anything_else(smollm: Bench) -> None:
    vocabulary = smollm.model._context.model.vocabulary
    good = 0
    for seed in range(3000):
        try:
            grammar.check(grammar.compiled(json.dumps(noise(random.Random(seed)))), vocabulary)
            good += 1
        except GrammarError:
            pass
    assert 100 < good < 2900


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b", 5, None]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
}
NODE = {"type": "object", "properties": {"value": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}}}
ACCEPTED: list[tuple[Any, list[str], list[str]]] = [
    ({}, ["{}", '{"a": [1, -2.5e3, "x\\n", null, true]}', '{ "a":{}}'], ["[]", "1", '{"a"}', "{,}", '{"a":1,}']),
    (PERSON, ['{"name":"x","age":120,"tags":["a"]}', '{ "name": "ö", "age": 0,\n  "tags": [5, null, "b"]}'],
     ['{"name":"x","age":121,"tags":["a"]}', '{"age":1,"name":"x","tags":["a"]}', '{"name":"","age":1,"tags":["a"]}',
      '{"name":"x","age":1,"tags":[]}', '{"name":"x","age":1}']),
    ({"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}},
     ["{}", '{"a":1}', '{"c":3}', '{"a":1,"c":3}', '{"b":2,"c":3}', '{"a":1,"b":2,"c":3}'],
     ['{"b":2,"a":1}', '{"a":2}', '{,"a":1}', '{"a":1,}']),
    ({"properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}}, "required": ["b"]},
     ['{"b":2}', '{"a":1,"b":2}', '{"b":2,"c":3}'], ["{}", '{"a":1}', '{"a":1,"c":3}']),
    ({"$ref": "#/$defs/node", "$defs": {"node": NODE}},
     ["{}", '{"value":true,"next":{"next":{"value":false}}}'], ['{"next":1}']),
    ({"type": ["string", "null"]}, ['"x"', "null"], ["1"]),
    ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, ["-5", "true"], ["5.5", '"x"', "05"]),
    ({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
      "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, ['{"a":null}', '{"b":null}'], ["{}"]),
    ({"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
      "$defs": {"b": {"properties": {"b": True}, "required": ["b"]}}}, ['{"a":null,"b":7}'], ['{"a":null}']),
    ({"type": "string", "pattern": "^[a-c]{2,3}-\\d+(x|\\.y)?$"},
     ['"ab-1"', '"abc-12.y"'], ['"a-1"', '"ab-"', '"ab-1z"']),
    ({"type": "string", "pattern": "b+"}, ['"abba"', '"b"'], ['"a"', '""']),
    ({"type": "string", "pattern": '^[^x]"\\\\$'}, ['"a\\"\\\\"'], ['"x\\"\\\\"']),
    ({"type": "string", "format": "date-time"}, ['"2024-02-29T23:59:59.5Z"'], ['"2024-13-01T00:00:00Z"']),
    ({"type": "string", "format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123"']),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}, ['[1, "x"]'], ["[1]", '["x",1]']),
    ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, ["{}", '{"x":1,"y":2}'], ['{"x":"y"}']),
    ({"type": "number", "minimum": 0}, ["0", "0.5", "1e10"], ["-1", ".5", "1."]),
    ({"const": {"k": ['"', "\n", "\\", "ö"]}}, ['{"k":["\\"","\\n","\\\\","ö"]}'], ['{"k":[]}']),
]  # fmt: skip


def fits(bench: Bench, schema: Any, text: str) -> bool:
    """Whether the schema's grammar takes the whole text, byte by byte of the tiny vocabulary."""
    vocabulary = bench.model._context.model.vocabulary
    rules = grammar.Grammar(grammar.compiled(json.dumps(schema)), vocabulary)
    try:
        for token in vocabulary.tokenize(text, special=False):
            rules.accept(token)
        return rules.allows(vocabulary.eos)
    except RequestError:
        return False
    finally:
        rules.close()


@pytest.mark.parametrize(("schema", "good", "bad"), ACCEPTED, ids=lambda value: json.dumps(value)[:50])
def test_a_schema_admits_what_fits_and_nothing_else(
    smollm: Bench, schema: Any, good: list[str], bad: list[str]
) -> None:
    gbnf.check(grammar.compiled(json.dumps(schema)))
    assert [text for text in good if not fits(smollm, schema, text)] == []
    assert [text for text in bad if fits(smollm, schema, text)] == []


def test_an_end_too_early_and_a_refused_token_are_caught_before_llama_cpp(smollm: Bench) -> None:
    vocabulary = smollm.model._context.model.vocabulary
    rules = grammar.Grammar('root ::= "ab"', vocabulary)
    for token in (vocabulary.eos, *vocabulary.tokenize("x", special=False), 1):
        with pytest.raises(RequestError, match="dead end"):
            rules.accept(token)
    for token in vocabulary.tokenize("ab", special=False):
        rules.accept(token)
    rules.close()


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_the_model_says_json_that_fits(smollm: Bench, temperature: float) -> None:
    chat = Chat([{"role": "user", "content": "Describe a person as JSON."}])
    for seed in range(3):
        sampling = Sampling(temperature=temperature, seed=seed, max_tokens=200)
        smollm.new()
        found = json.loads(smollm.reply(chat, sampling, json_schema=json.dumps(PERSON)))
        assert list(found) == ["name", "age", "tags"]
        assert 1 <= len(found["name"]) <= 20
        assert 0 <= found["age"] <= 120
        assert 1 <= len(found["tags"]) <= 3
        assert set(found["tags"]) <= {"a", "b", 5, None}


def test_a_grammar_that_the_text_fits_changes_nothing(smollm: Bench) -> None:
    smollm.new()
    plain = smollm.reply("Once upon a time", Sampling(seed=3, max_tokens=16))
    smollm.new()
    assert smollm.reply("Once upon a time", Sampling(seed=3, max_tokens=16), grammar="root ::= [^\\x00]*") == plain


def test_each_choice_has_a_grammar_of_its_own(smollm: Bench) -> None:
    smollm.new()
    id = smollm.start("Pick:", Sampling(seed=1), grammar='root ::= "left" | "right"', siblings=(901, 902))
    smollm.run()
    assert {smollm.text(each) for each in (id, 901, 902)} <= {"left", "right"}
    assert all(smollm.end(each).reason == "eos" for each in (id, 901, 902))


def test_a_complete_text_ends_even_if_no_end_may_be_drawn(smollm: Bench) -> None:
    smollm.new()
    assert smollm.reply("Say:", Sampling(ignore_eos=True, max_tokens=9), grammar='root ::= "ab"') == "ab"


def test_a_dead_end_ends_the_request_alone(smollm: Bench) -> None:
    smollm.new()
    vocabulary = smollm.model._context.model.vocabulary
    never = tuple((token, float("-inf")) for token, piece in enumerate(vocabulary.pieces) if piece.startswith(b"a"))
    bad = smollm.start("Say:", Sampling(logit_bias=never), grammar='root ::= "ab"')
    good = smollm.start("Once", Sampling(temperature=0.0, max_tokens=8))
    smollm.run()
    (failed,) = [event for event in smollm.events if isinstance(event, Failed) and event.id == bad]
    assert (failed.code, "dead end" in failed.message) == ("invalid_grammar", True)
    assert smollm.end(good).reason == "limit"
    assert not smollm.engine.pool.live


def test_compiling_the_same_schema_again_is_free() -> None:
    text = json.dumps(PERSON)
    assert grammar.compiled(text) is grammar.compiled(text)
    with pytest.raises(GrammarError):
        grammar.compiled(json.dumps({"type": "thing"}))


def test_penalties_count_what_the_grammar_chose(smollm: Bench) -> None:
    vocabulary = smollm.model._context.model.vocabulary
    parameters = Sampling(temperature=0, presence_penalty=100).over(LLAMA_DEFAULTS)
    rules = grammar.Grammar("root ::= [ab]*", vocabulary)
    sampler = Sampler(parameters, vocabulary, 64, Candidates(vocabulary.size), rules)
    row = smollm.model._context.logits
    smollm.new()
    smollm.reply("Say", Sampling(temperature=0, max_tokens=1))
    logits = row(0)
    drawn = [sampler.sample(logits) for _ in range(2)]
    assert drawn[0] != drawn[1]
    sampler.close()
