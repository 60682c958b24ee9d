"""What holds a reply to a form: the seam between sampling and the two engines of grammars. ENGINE.md, 8.

    worker.guidance         Lark with JSON schemas in it, by llguidance: bit masks over the vocabulary
    worker.native_grammar   GBNF, by llama.cpp

A sampled token is checked alone; only if it is refused are all candidates restricted, and one is drawn again.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from worker.failure import RequestError

DEAD_END = "grammar dead end: the grammar allows none of the tokens that sampling has left"


class GrammarError(ValueError):
    """Says what is wrong with a grammar or a schema, and where."""


class Pool(Protocol):
    """The candidates that a token is drawn from; `reference` is llama.cpp's array of them."""

    @property
    def reference(self) -> Any: ...

    def keep(self, ids: npt.NDArray[np.intp]) -> None:
        """Forgets all candidates but these."""

    def keep_finite(self) -> None:
        """Forgets the candidates whose logit is −∞."""


class Rules(Protocol):
    """What a token must obey."""

    def allows(self, token: int) -> bool: ...

    def restrict(self, pool: Pool) -> None:
        """Leaves only what is allowed; may leave nothing."""

    def accept(self, token: int) -> None:
        """The token goes into the reply. Raises RequestError if it must not; then the state is as before."""


class Grammar(Rules, Protocol):
    """The state of one reply, from the grammar's start."""

    @property
    def complete(self) -> bool:
        """Whether the text so far may be the whole."""

    def read(self, text: str) -> bool:
        """Takes text that is in the reply already; False if it does not fit, and then the grammar is of no use."""

    def close(self) -> None: ...


class Compiled(Protocol):
    """A grammar that has been checked."""

    def new(self) -> Grammar:
        """Cheap, and safe in any thread. Raises RequestError if it cannot begin."""


def dead_end() -> RequestError:
    return RequestError("invalid_grammar", DEAD_END)
