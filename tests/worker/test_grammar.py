"""Grammars and schemas: what is refused and why, and that what the model says fits."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from supervisor.config import LLAMA_DEFAULTS, Sampling
from tests.worker.schemas import CASES, PERSON, Case
from tests.worker.test_engine import Bench
from worker.failure import RequestError
from worker.grammar import Grammar, GrammarError
from worker.guidance import Lark, Masks
from worker.guide import Guide, Plan
from worker.lark import of_schema
from worker.native_grammar import Gbnf
from worker.protocol import Chat, Failed, Generate, Text
from worker.sampling import Candidates, Sampler


@pytest.fixture(scope="module")
def masks(smollm: Bench) -> Masks:
    return Masks(smollm.model._context.model.vocabulary)


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
        ({"type": "thing"}, "at #: Invalid type: thing"),
        ({"properties": {"a": {"type": "thing"}}}, "#/properties/a: Invalid type"),
        ({"items": {"anyOf": [{"type": "string", "pattern": "(?=x)"}]}}, "#/items/anyOf/0: regex"),
        ({"properties": {"a": {"not": {}}}}, "#/properties/a/not"),
        ({"if": {"type": "string"}, "then": {"minLength": 1}}, "#/if"),
        ({"$ref": "#/$defs/x"}, "'/$defs/x' does not exist"),
        ({"$ref": "http://x/y"}, "retrieving it failed"),
        ({"$ref": "#"}, "nothing fits"),
        ({"allOf": [{"$ref": "#"}]}, "nothing fits"),
        ({"anyOf": [{"required": 5}]}, "#/anyOf/0/required"),
        ({"enum": []}, "#/enum"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"type": "string", "minLength": "x"}, "#/minLength"),
        ({"type": "string", "pattern": "(x"}, "unclosed group"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "json_schema: "),
        ({"properties": []}, "#/properties"),
        (5, "no schema"),
        (False, "nothing fits false"),
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


def test_no_schema_whatsoever_raises_anything_else(masks: Masks) -> None:
    good = 0
    for seed in range(3000):
        try:
            Lark(of_schema(json.dumps(noise(random.Random(seed)))), masks)
            good += 1
        except GrammarError:
            pass
    assert 100 < good < 2900


def fits(grammar: Grammar, text: str) -> bool:
    """Whether the grammar takes the whole text."""
    return grammar.read(text) and grammar.complete


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_a_schema_admits_what_fits_and_nothing_else(masks: Masks, case: Case) -> None:
    schema = Lark(of_schema(json.dumps(case.schema)), masks)
    assert [text for text in case.good if not fits(schema.new(), text)] == []
    assert [text for text in case.bad if fits(schema.new(), text)] == []


@pytest.mark.parametrize("kind", ["gbnf", "lark"])
def test_an_end_too_early_and_a_refused_token_are_caught(smollm: Bench, masks: Masks, kind: str) -> None:
    vocabulary = smollm.model._context.model.vocabulary
    rules = Gbnf('root ::= "ab"', vocabulary).new() if kind == "gbnf" else Lark('start: "ab"', masks).new()
    for token in (vocabulary.eos, *vocabulary.tokenize("x", special=False), 1):
        with pytest.raises(RequestError, match="dead end"):
            rules.accept(token)
    for token in vocabulary.tokenize("ab", special=False):
        rules.accept(token)
    assert rules.complete
    assert all(rules.allows(end) for end in vocabulary.end)
    rules.accept(vocabulary.eos)
    rules.close()


@pytest.mark.parametrize(("temperature", "seeds"), [(0.0, 1), (1.5, 3)])
def test_the_model_says_json_that_fits(smollm: Bench, temperature: float, seeds: int) -> None:
    chat = Chat([{"role": "user", "content": "Describe a person as JSON."}])
    for seed in range(seeds):
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


def test_compiling_the_same_schema_again_is_free(smollm: Bench) -> None:
    request = Generate(1, "r", Text(("x",)), json_schema=json.dumps(PERSON))
    guides = smollm.model.text._guides
    first, again = guides.plan(request), guides.plan(request)
    assert first is not None
    assert again is not None
    assert first.answer is again.answer


def test_penalties_count_what_the_grammar_chose(smollm: Bench) -> None:
    vocabulary = smollm.model._context.model.vocabulary
    parameters = Sampling(temperature=0, presence_penalty=100).over(LLAMA_DEFAULTS)
    guide = Guide(Plan(Gbnf("root ::= [ab]*", vocabulary)))
    sampler, candidates = Sampler(parameters, vocabulary, 64, guide), Candidates(vocabulary.size)
    row = smollm.model._context.logits
    smollm.new()
    smollm.reply("Say", Sampling(temperature=0, max_tokens=1))
    logits = row(0)
    drawn = [sampler.sample(logits, candidates) for _ in range(2)]
    assert drawn[0] != drawn[1]
    sampler.close()
