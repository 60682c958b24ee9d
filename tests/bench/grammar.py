"""Grammars: what each engine of them covers, what a token costs, and decode under a schema against free decode.

The other contender is llama.cpp: its sampler of GBNF, and the converter from schemas in llama-cpp-python.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf

from supervisor.config import Sampling
from tests.bench.decode import Nowhere, load
from tests.bench.table import Pairs, Row
from tests.worker.schemas import CASES
from worker.engine import EngineCore
from worker.grammar import Compiled, Grammar
from worker.guidance import Lark, masks
from worker.lark import of_schema
from worker.main import LlamaModel
from worker.native_grammar import Gbnf
from worker.protocol import Chat, Generate
from worker.sampling import Candidates
from worker.seams import Drop, Job, Vitals

ROUNDS, TOKENS = 7, 48
PEOPLE = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3, "maxLength": 30},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "job": {"enum": ["baker", "miller", "smith"]},
            "about": {"type": "string", "minLength": 20, "maxLength": 200},
        },
        "required": ["name", "age", "job", "about"],
    },
    "minItems": 20,
}
_KINDS = {"name": {"type": "string"}, "age": {"type": "integer"}, "job": {"enum": ["baker", "miller", "smith"]}}
PLAIN = {  # what both engines can compile
    "type": "array",
    "items": {
        "type": "object",
        "properties": {**_KINDS, "about": {"type": "string"}},
        "required": ["name", "age", "job", "about"],
    },
}
DOCUMENT = json.dumps(
    [{"name": name, "age": 42, "job": "baker", "about": f"{name} was born in a small town by the sea, isn't it so?"}
     for name in ("Ann Miller", "Bob", "Christopher Robin")] * 7
)  # fmt: skip
JSON_GBNF = r"""root ::= "[" ws value ("," ws value)* "]"
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? ws "}"
array ::= "[" ws (value ("," ws value)*)? ws "]"
string ::= "\"" ([^"\\\x00-\x1f] | "\\" ["\\/bfnrt])* "\""
number ::= "-"? [0-9]{1,9} ("." [0-9]{1,9})?
ws ::= " "?"""
Make = Callable[[Any], Compiled]


def rows() -> Iterator[Row]:
    model = load(4)
    vocabulary = model._context.model.vocabulary
    engines: dict[str, Make] = {
        "llguidance": lambda schema: Lark(of_schema(json.dumps(schema)), masks(vocabulary)),
        "GBNF": lambda schema: Gbnf(json_schema_to_gbnf(json.dumps(schema)), vocabulary),
    }
    with _silent():
        covered = {name: _coverage(make) for name, make in engines.items()}
        costs = {name: _costs(model, make(PLAIN)) for name, make in engines.items()}
    for name, (compiled, right) in covered.items():
        yield Row(f"schemas that {name} gets right", f"{right} of {len(CASES)}", f"{compiled} compile")
    for name, (check, restrict) in costs.items():
        detail = f"check and accept a token {check:.0f} µs, restrict all candidates {restrict:,.0f} µs; medians"
        yield Row(f"a token under a schema, {name}", f"{check:.0f} µs", detail)
    for sequences, goal in ((1, True), (4, True)):
        for temperature in (0.0, 0.8):
            what = (
                f"decode under a schema ÷ free, {sequences} sequence{'s' * (sequences > 1)}, temperature {temperature}"
            )
            yield _ratio(model, what, sequences, temperature, goal=goal, json_schema=json.dumps(PEOPLE))
    yield _ratio(model, "decode under a GBNF of JSON ÷ free, 1 sequence", 1, 0.0, goal=False, grammar=JSON_GBNF)
    model._context.close()


def _coverage(make: Make) -> tuple[int, int]:
    """How many of the cases compile, and of how many every text is judged rightly."""
    compiled = right = 0
    for case in CASES.values():
        try:
            grammar = make(case.schema)
        except Exception:
            continue  # of whatever kind: it does not compile
        compiled += 1
        good = all(_fits(grammar.new(), text) for text in case.good)
        right += good and not any(_fits(grammar.new(), text) for text in case.bad)
    return compiled, right


def _fits(grammar: Grammar, text: str) -> bool:
    return grammar.read(text) and grammar.complete


def _costs(model: LlamaModel, compiled: Compiled) -> tuple[float, float]:
    """Medians over a document in µs: of checking and accepting a token, of restricting all candidates."""
    vocabulary, candidates = model._context.model.vocabulary, Candidates(model._context.model.vocabulary.size)
    logits = np.zeros(vocabulary.size, np.float32)
    grammar, checks, restricts = compiled.new(), [], []
    for token in vocabulary.tokenize(DOCUMENT[:1000], special=False):
        began = time.perf_counter()
        candidates.choose(0, logits, grammar)
        middle = time.perf_counter()
        assert grammar.allows(token)
        grammar.accept(token)
        restricts.append(middle - began)
        checks.append(time.perf_counter() - middle)
    return 1e6 * statistics.median(checks), 1e6 * statistics.median(restricts)


def _ratio(model: LlamaModel, what: str, sequences: int, temperature: float, *, goal: bool, **constraint: str) -> Row:
    pairs = Pairs([], [])
    for seed in range(ROUNDS):
        for speeds, found in ((pairs.first, {}), (pairs.second, constraint)):
            speeds.append(sequences * TOKENS / _seconds(model, sequences, temperature, seed, **found))
    met = pairs.ratio >= 0.9 if goal else None
    return Row(what, f"{pairs.ratio:.2f}", pairs.rates, "≥ 0.90" if goal else "", met)


def _seconds(model: LlamaModel, sequences: int, temperature: float, seed: int, **constraint: str) -> float:
    """Of so many steps of the engine, from the first in which all decode."""
    model._context.clear()
    core = EngineCore(model._context, model.facts.sampling, model._costs, None, 0.25, Nowhere(), Vitals())
    chat = Chat([{"role": "user", "content": "Describe twenty people of an old town, as JSON."}])
    prompt = model.text.prompt(chat)
    for sequence in range(sequences):
        sampling = Sampling(temperature=temperature, seed=seed, max_tokens=2 * TOKENS + 64, ignore_eos=True)
        request = Generate(0, "bench", chat, sampling, cache_prompt=False, **constraint)  # type: ignore[arg-type]
        core.obey(Job((1, sequence), request, prompt, (), tuple(model.text.guides(request, prompt, [None]))))
    while core.waiting or not core.running or not all(reply.decoding for reply in core.running):
        core.step()
    began = time.monotonic()
    for _ in range(TOKENS):
        core.step()
    seconds = time.monotonic() - began
    assert len(core.running) == sequences, "a sequence ended early: the comparison is void"
    for sequence in range(sequences):
        core.obey(Drop((1, sequence)))
    return seconds


@contextmanager
def _silent() -> Iterator[None]:
    """llama.cpp says to stderr why it refuses a grammar."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
