"""GBNF at work in llama.cpp. ENGINE.md, 8 and 17.

llama.cpp ends the process if it is told a token that the grammar does not allow, so `accept` checks again.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

from worker import binding, gbnf
from worker.grammar import Grammar, GrammarError, Pool, dead_end
from worker.vocabulary import Vocabulary


class Gbnf:
    """See worker.grammar.Compiled."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        """Raises GrammarError for what is no grammar."""
        gbnf.check(text)
        self._text, self._vocabulary = text.encode("utf-8", "replace"), vocabulary
        self.new().close()

    def new(self) -> Grammar:
        return NativeGrammar(self._text, self._vocabulary)


class NativeGrammar:
    """See worker.grammar.Grammar."""

    def __init__(self, text: bytes, vocabulary: Vocabulary) -> None:
        """`text` has passed gbnf.check. Raises GrammarError."""
        self._handle: Any = binding.sampler_init_grammar(vocabulary.handle, text, b"root")
        if not self._handle:
            raise GrammarError("not accepted by llama.cpp: a rule may begin with itself, or an escape is unknown")
        self._free = weakref.finalize(self, binding.sampler_free, self._handle)
        self._free.atexit = False
        self._vocabulary = vocabulary
        self._one = (binding.TokenData * 1)()
        self._array = binding.TokenDataArray(data=self._one, size=1, selected=-1, sorted=False)
        self._reference = ctypes.byref(self._array)

    @property
    def complete(self) -> bool:
        return self.allows(next(iter(self._vocabulary.end), -1))

    def allows(self, token: int) -> bool:
        self._one[0].id, self._one[0].logit = token, 1.0
        binding.sampler_apply(self._handle, self._reference)
        return bool(self._one[0].logit == 1.0)

    def restrict(self, pool: Pool) -> None:
        binding.sampler_apply_long(self._handle, pool.reference)
        pool.keep_finite()

    def accept(self, token: int) -> None:
        if not self.allows(token):
            raise dead_end()
        if token not in self._vocabulary.end:
            binding.sampler_accept(self._handle, token)

    def read(self, text: str) -> bool:
        for token in self._vocabulary.tokenize(text, special=True):
            if not self.allows(token):
                return False
            self.accept(token)
        return True

    def close(self) -> None:
        self._free()
