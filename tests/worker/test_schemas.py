"""Replies of a real engine held to random schemas: a validator that knows nothing of grammars finds no fault."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from supervisor.config import Sampling
from tests import models
from tests.worker.test_engine import Bench
from worker.protocol import Generate, Text

COUNT = 200
_WORDS = ["red", "Grün", "a b", 'quo"te', "back\\slash", "new\nline", "<tag>", "日本", ""]
_NAMES = ["name", "size", "kind of", "x-y", "größe", '"', "items", "$ref"]


def schema(rng: random.Random, depth: int = 0) -> Any:
    """One whose texts are short, as nothing in it is unbounded."""
    kinds: list[Callable[[random.Random, int], Any]] = [_text, _integer, _enum, _const, _simple]
    if depth < 3:
        kinds += [_object, _object, _array, _array, _any_of, _all_of]
    return rng.choice(kinds)(rng, depth)


def _text(rng: random.Random, depth: int) -> Any:
    low = rng.randrange(4)
    return rng.choice(
        [
            {"type": "string", "minLength": low, "maxLength": low + rng.randrange(5)},
            {"type": "string", "pattern": rng.choice(["^[a-f]{2,4}$", "^\\d{3}-\\d{2}$", "^(ab|cd)+?e?$", "^[^0-9]$"])},
            {"type": "string", "format": rng.choice(["date", "uuid", "ipv4"])},
        ]
    )


def _integer(rng: random.Random, depth: int) -> Any:
    low = rng.randrange(-2000, 2000)
    bounds = {"minimum": low, "maximum": low + rng.randrange(3000)}
    return {"type": "integer", **bounds} | rng.choice([{}, {"exclusiveMinimum": low - 1}])


def _enum(rng: random.Random, depth: int) -> Any:
    return {"enum": rng.sample([*_WORDS, 1, -2.5, None, True, [1, "a"], {"k": "v"}], rng.randrange(1, 5))}


def _const(rng: random.Random, depth: int) -> Any:
    return {"const": rng.choice([*_WORDS, 0, None, {"a": [1, {"b": None}]}])}


def _simple(rng: random.Random, depth: int) -> Any:
    return {"type": rng.choice(["boolean", "null", ["boolean", "null"]])}


def _object(rng: random.Random, depth: int) -> Any:
    names = rng.sample(_NAMES, rng.randrange(1, 5))
    found = {"type": "object", "properties": {name: schema(rng, depth + 1) for name in names}}
    found["required"] = [name for name in names if rng.random() < 0.6]
    if rng.random() < 0.3:
        found["additionalProperties"] = False
    return found


def _array(rng: random.Random, depth: int) -> Any:
    low = rng.randrange(3)
    if rng.random() < 0.2:
        parts = [schema(rng, depth + 1) for _ in range(low + 1)]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    return {"type": "array", "items": schema(rng, depth + 1), "minItems": low, "maxItems": low + rng.randrange(3)}


def _any_of(rng: random.Random, depth: int) -> Any:
    return {"anyOf": [schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))]}


def _all_of(rng: random.Random, depth: int) -> Any:
    one, other = _object(rng, depth + 1), _object(rng, depth + 1)
    for name in set(one["properties"]) & set(other["properties"]):
        del other["properties"][name]
        other["required"] = [each for each in other["required"] if each != name]
    one.pop("additionalProperties", None)
    other.pop("additionalProperties", None)
    return {"allOf": [one, other]}


def whole(rng: random.Random) -> Any:
    found = schema(rng)
    if rng.random() < 0.3:
        return {"$defs": {"d": found}, "type": "array", "items": {"$ref": "#/$defs/d"}, "minItems": 1, "maxItems": 2}
    return found


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(models.tiny(), n_ctx=512, parallel=8)


def test_replies_under_random_schemas_are_valid(bench: Bench) -> None:
    schemas = [whole(random.Random(seed)) for seed in range(COUNT)]
    # a model of noise would fill every place where it may with white space
    blank = tuple((text, -5.0) for text in (" ", "\n", "\t"))
    bench.new()
    ids = [
        bench.start("x", Sampling(seed=seed, max_tokens=480, logit_bias=blank), json_schema=json.dumps(each))
        for seed, each in enumerate(schemas)
    ]
    bench.run()
    faults = []
    for id, each in zip(ids, schemas, strict=True):
        if bench.end(id).reason == "eos":
            jsonschema.validate(json.loads(bench.text(id)), each, format_checker=jsonschema.FormatChecker())
        else:
            faults.append((each, bench.text(id)))
    assert not faults


def test_the_same_schemas_refuse_what_is_not_valid(bench: Bench) -> None:
    """The other direction would not see a grammar that allows everything."""
    refused = 0
    for seed in range(COUNT):
        found = whole(random.Random(seed))
        plan = bench.model.text._guides.plan(Generate(1, "r", Text(("x",)), json_schema=json.dumps(found)))
        assert plan is not None
        assert plan.answer is not None
        for value in (5, "x", [], {}, {"name": 5}, None, [[1]], -1e9):
            grammar = plan.answer.new()
            text = json.dumps(value)
            if grammar.read(text) and grammar.complete:
                jsonschema.validate(value, found)
            else:
                refused += 1
    assert refused > 4 * COUNT
