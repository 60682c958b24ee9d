"""A grammar at work: the check of each token, and the filter for when the check fails. ENGINE.md, 8 and 17.

llama.cpp ends the process if it is told a token that the grammar does not allow, so `accept` checks again.
"""

from __future__ import annotations

import ctypes
import json
from functools import lru_cache
from typing import Any

from worker import binding, gbnf, schema_grammar
from worker.failure import RequestError
from worker.gbnf import GrammarError
from worker.protocol import Generate
from worker.vocabulary import Vocabulary

DEAD_END = "grammar dead end: the grammar allows none of the tokens that sampling has left"


class Grammar:
    """The state of one reply. `close` frees it."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        """`text` has passed gbnf.check. Raises GrammarError."""
        self._handle: Any = binding.sampler_init_grammar(vocabulary.handle, text.encode("utf-8", "replace"), b"root")
        if not self._handle:
            raise GrammarError("not accepted by llama.cpp: a rule may begin with itself, or an escape is unknown")
        self._end = vocabulary.end
        self._one = (binding.TokenData * 1)()
        self._array = binding.TokenDataArray(data=self._one, size=1, selected=-1, sorted=False)
        self._reference = ctypes.byref(self._array)

    def allows(self, token: int) -> bool:
        self._one[0].id, self._one[0].logit = token, 1.0
        binding.sampler_apply(self._handle, self._reference)
        return bool(self._one[0].logit == 1.0)

    def filter(self, candidates: Any) -> None:
        """Sets the logits of tokens that it does not allow to −∞; takes the reference of a whole array."""
        binding.sampler_apply_long(self._handle, candidates)

    def accept(self, token: int) -> None:
        """The token goes into the reply. Raises RequestError if it must not; then the state is as before."""
        if not self.allows(token):
            raise RequestError("invalid_grammar", DEAD_END)
        if token not in self._end:
            binding.sampler_accept(self._handle, token)

    def close(self) -> None:
        if self._handle:
            binding.sampler_free(self._handle)
            self._handle = None


def of(request: Generate) -> str:
    """The grammar of the reply, "" for none. Raises GrammarError if its schema is none."""
    return compiled(request.json_schema) if request.json_schema else request.grammar


@lru_cache(maxsize=64)
def compiled(schema: str) -> str:
    """The grammar of a schema's JSON text. Raises GrammarError."""
    if len(schema.encode("utf-8", "replace")) > schema_grammar.MAX_SCHEMA:
        raise GrammarError(f"the schema is larger than {schema_grammar.MAX_SCHEMA} bytes")
    return schema_grammar.grammar(json.loads(schema))


@lru_cache(maxsize=64)
def check(text: str, vocabulary: Vocabulary) -> None:
    """Raises GrammarError for what is no grammar."""
    gbnf.check(text)
    Grammar(text, vocabulary).close()
