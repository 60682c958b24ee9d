"""Texts drawn at random from each family's own grammar: the family's machine reads them as calls that fit the tools."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.worker.outputs import (
    CODER,
    COMMAND,
    DEEPSEEK,
    DSML,
    GEMMA,
    GLM,
    GRANITE,
    HARMONY,
    HERMES,
    KIMI,
    LLAMA,
    MISTRAL,
    PHI,
    machine,
    run,
    seen,
)  # fmt: skip
from tests.worker.test_engine import Bench
from worker.chat import writing
from worker.chat.families import choose
from worker.guidance import Lark, LarkGrammar, masks
from worker.vocabulary import Vocabulary

FAMILIES = {
    "hermes": HERMES, "coder": CODER, "glm": GLM, "llama": LLAMA, "mistral": MISTRAL, "deepseek": DEEPSEEK,
    "kimi": KIMI, "harmony": HARMONY, "granite": GRANITE, "command": COMMAND, "phi": PHI, "gemma": GEMMA, "dsml": DSML,
}  # fmt: skip
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object",
        "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}, "days": {"type": "integer"},
                       "city": {"type": "string"}, "exact": {"type": "boolean"},
                       "spots": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}},
        "required": ["unit", "days", "city"]}}},
    {"type": "function", "function": {"name": "weather_map", "parameters": {"type": "object", "properties": {}}}},
]  # fmt: skip
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
# What closes something: noise would seldom do so.
_CLOSERS = ("</parameter>", "</arg_value>", "</｜DSML｜parameter>", "</function>", "</tool_call>", "</｜DSML｜invoke>",
            '<|"|>', '"', "}", "]", "7", "true")  # fmt: skip
_ENOUGH = 300  # tokens
_PATIENCE = 4  # tokens between two closers


@pytest.fixture(scope="module")
def vocabulary(smollm: Bench) -> Vocabulary:
    return smollm.model._context.model.vocabulary


def drawn(grammar: LarkGrammar, vocabulary: Vocabulary, marks: list[str], seed: int) -> str | None:
    """A whole text of this grammar; None if it gets too long."""
    rng, written, since = np.random.default_rng(seed), b"", 0
    closers = [vocabulary.tokenize(text, special=False) for text in marks]
    for _ in range(_ENOUGH):
        allowed = grammar.allowed()
        for end in vocabulary.end:
            allowed = allowed[allowed != end]
        if grammar.complete and (not allowed.size or rng.random() < 0.5):
            return written.decode("utf-8", "replace")
        assert allowed.size, f"a dead end behind {written!r}"
        tokens = [int(rng.choice(allowed))]
        if since >= _PATIENCE:
            fitting = [each for each in closers if grammar._matcher.validate_tokens(each) == len(each)]
            tokens, since = fitting[rng.integers(len(fitting))] if fitting else tokens, 0
        for token in tokens:
            grammar.accept(token)
            written += vocabulary.pieces[token]
        since += 1
    return None


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_familys_grammar_admits_is_read_as_calls(vocabulary: Vocabulary, name: str, many: bool) -> None:
    family = choose(FAMILIES[name])
    assert family is not None
    functions = [tool["function"] for tool in TOOLS]
    rules = writing.message(family, functions, lambda _: {}, many=many, lead=False)
    grammar, marks = Lark(rules, masks(vocabulary)), [each for each in _CLOSERS if len(each) == 1 or each in rules]
    found = 0
    for seed in range(20):
        text = drawn(grammar.new(), vocabulary, marks, seed)
        if text is None:
            continue
        reader = machine(FAMILIES[name], tools_given=TOOLS, parallel_tool_calls=many)
        content, _, calls = seen(run(reader, text))
        assert (content.strip(), bool(calls)) == ("", True), text
        for called, arguments in calls:
            jsonschema.validate(json.loads(arguments), SCHEMAS[called])
        assert many or len(calls) == 1
        found += 1
    assert found >= 4
