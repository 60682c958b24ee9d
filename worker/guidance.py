"""The only file that imports llguidance: Lark grammars with JSON schemas in them, as bit masks over a vocabulary.

It raises nothing at a bad grammar, a refused token or a limit, but falls into an error state that it never leaves.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import llguidance
import numpy as np

from worker.failure import RequestError
from worker.grammar import GrammarError, Pool, dead_end
from worker.vocabulary import Vocabulary

_PLACE = re.compile(r"^(at \d+\(\d+\): |failed to compile JSON schema: )*")
_HIDDEN = b"\xff"  # before the spelling of a token that is no text: a grammar must name it
_NOTHING = "NoExtension"  # the error that is no limit: no text goes on from here
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 2_000_000,
    "step_lexer_fuel": 200_000,  # some 15 ms of one token's mask
    "step_max_items": 50_000,  # 2 ms
    "max_lexer_states": 50_000,  # 2 kB each
    "verbose_errors": False,  # they would tell a client of the parser's inside
}


class Lark:
    """See worker.grammar.Compiled."""

    def __init__(self, text: str, masks: Masks) -> None:
        """Raises GrammarError with llguidance's words; also if nothing at all fits the grammar."""
        self._masks = masks
        self._model: Any = llguidance.LLMatcher(
            masks.tokenizer, text, log_level=0, limits=llguidance.LLParserLimits(**_LIMITS)
        )
        if self._model.is_error():
            raise GrammarError(_reason(self._model.get_error()))
        try:
            if not self.new().allowed().size:
                raise GrammarError("nothing fits")
        except RequestError as error:
            raise GrammarError(str(error)) from None

    def new(self) -> LarkGrammar:
        return LarkGrammar(self._model.deep_copy(), self._masks)


class LarkGrammar:
    """See worker.grammar.Grammar."""

    def __init__(self, matcher: Any, masks: Masks) -> None:
        self._matcher, self._masks, self._end = matcher, masks, masks.end

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_accepting())

    def allows(self, token: int) -> bool:
        if token in self._end:
            return self.complete
        return bool(self._matcher.validate_tokens([token]) == 1)

    def allowed(self) -> np.ndarray[Any, np.dtype[np.intp]]:
        """The ids of all tokens that may come. Raises RequestError at a limit."""
        bits = np.zeros(self._masks.words, np.int32)
        self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if self._matcher.is_error():
            reason = _reason(self._matcher.get_error())
            if reason.startswith(_NOTHING):
                return np.empty(0, np.intp)
            raise RequestError("invalid_grammar", f"the grammar became too complex: {reason}")
        return np.flatnonzero(np.unpackbits(bits.view(np.uint8), count=self._masks.size, bitorder="little"))

    def restrict(self, pool: Pool) -> None:
        pool.keep(self.allowed())

    def accept(self, token: int) -> None:
        if not self.allows(token):
            raise dead_end()
        if token not in self._end and not self._matcher.consume_token(token):
            raise dead_end()

    def read(self, text: str) -> bool:
        tokens = self._masks.tokenizer.tokenize_bytes(text.encode(), parse_special=True)
        return bool(self._matcher.try_consume_tokens(tokens) == len(tokens))

    def close(self) -> None:
        pass


class Masks:
    """A vocabulary as llguidance wants it. Takes 0.1 s for 49,152 tokens."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.size, self.end = vocabulary.size, vocabulary.end
        self.words = (vocabulary.size + 31) // 32
        pieces = [piece or _HIDDEN + vocabulary.spell(token) for token, piece in enumerate(vocabulary.pieces)]
        self.tokenizer: Any = llguidance.LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
            tokens=pieces,
            vocab_ptr=vocabulary.handle,
            tokenize_fptr=vocabulary.tokenize_address,
            eos_token=sorted(vocabulary.end) or [0],
        )


@lru_cache(maxsize=1)
def masks(vocabulary: Vocabulary) -> Masks:
    """Of the one model that a process has."""
    return Masks(vocabulary)


def _reason(text: str) -> str:
    """An error in its own words, without our grammar and the parser's state around them."""
    text = text.partition("\n<state>")[0].partition("\n   1 | ")[0]
    return _PLACE.sub("", text.replace("<non-verbose/>", "")).strip()[:400]
