"""Logits → tokens: where parameters come from, and the drawing of one sequence. ENGINE.md, 8."""

from __future__ import annotations

import contextlib
import ctypes
import secrets
from typing import Protocol

import numpy as np
import numpy.typing as npt

from supervisor.config import LLAMA_DEFAULTS, Sampling
from supervisor.schema import Invalid, convert
from worker import binding
from worker.chain import links
from worker.grammar import Grammar
from worker.vocabulary import Vocabulary

_FROM_GGUF = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "repeat_penalty": "penalty_repeat",
    "repeat_last_n": "penalty_last_n",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
RANDOM_SEED = 2**32 - 1  # llama.cpp's word for "any"


Ids = npt.NDArray[np.int32]
Values = npt.NDArray[np.float32]


class Meta(Protocol):
    """Answers with the text of a GGUF key, or None."""

    def __call__(self, key: str, /) -> str | None: ...


def from_gguf(meta: Meta) -> Sampling:
    """What the file recommends under `general.sampling.*`; what is no legal value is ignored."""
    said: dict[str, object] = {}
    for name, key in _FROM_GGUF.items():
        with contextlib.suppress(ValueError):
            said[name] = float(meta(f"general.sampling.{key}") or "")
    if sequence := meta("general.sampling.sequence"):
        said["samplers"] = sequence.split(";")
    found = Sampling()
    for name, value in said.items():
        with contextlib.suppress(Invalid):
            found = convert({name: value}, Sampling).over(found)
    return found


def effective(model: Sampling, gguf: Sampling) -> Sampling:
    """A model's defaults: its configuration over its file over llama.cpp's."""
    return model.over(gguf.over(LLAMA_DEFAULTS))


class Sampler:
    """Draws the tokens of one sequence. `close` frees the chain."""

    def __init__(
        self,
        parameters: Sampling,
        vocabulary: Vocabulary,
        n_ctx: int,
        candidates: Candidates,
        grammar: Grammar | None = None,
    ) -> None:
        """`parameters` are complete, as `effective` makes them; `candidates` is shared by the samplers of a thread.

        `grammar` is closed with the sampler.
        """
        self._grammar, self._end = grammar, vocabulary.end
        self._candidates = candidates
        self._chain = 0
        self.parameters = parameters
        self.seed = _seed(parameters.seed)
        found = links(parameters, vocabulary, n_ctx, self.seed)
        self._remembers, self._greedy = found.remembers, found.greedy
        self._drawn = -1
        if not found.handles:
            return
        self._chain = binding.sampler_chain_init(binding.sampler_chain_default_params())
        for handle in found.handles:
            binding.sampler_chain_add(self._chain, handle)

    def remember(self, tokens: npt.NDArray[np.int32]) -> None:
        """Counts the prompt's tokens for the penalties."""
        if self._chain and self._remembers:
            for token in tokens.tolist():
                binding.sampler_accept(self._chain, token)

    def sample(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token for a row of logits, shape (n_vocab,). Raises RequestError at a grammar's dead end."""
        token = self._candidates.choose(self._chain, logits) if self._chain else int(logits.argmax())
        if self._grammar is not None:
            token = self._constrained(self._grammar, token, logits)
        if self._remembers:
            binding.sampler_accept(self._chain, token)
        self._drawn = token
        return token

    def _constrained(self, grammar: Grammar, token: int, logits: Values) -> int:
        """The token if the grammar allows it, else one drawn from those that it allows; the grammar accepts it."""
        if not grammar.allows(token):
            token = self._candidates.choose(self._chain, logits, grammar)
            if not grammar.allows(token):  # the chain has left none of them; a reply that is complete may end
                token = next((end for end in self._end if grammar.allows(end)), token)
        grammar.accept(token)
        return token

    def distribution(self) -> tuple[Ids, Values]:
        """Tokens and their probabilities after the chain, for the token just drawn; views, for the moment only."""
        if self._greedy:
            return np.array([self._drawn], np.int32), np.ones(1, np.float32)
        return self._candidates.left

    def close(self) -> None:
        if self._grammar:
            self._grammar.close()
        if self._chain:
            binding.sampler_free(self._chain)
            self._chain = 0


class Candidates:
    """The array (id, logit, p) that a chain works on, filled anew for each token."""

    def __init__(self, n_vocab: int) -> None:
        self._array = np.zeros(n_vocab, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._id, self._logit = self._array["id"], self._array["logit"]
        self._data = ctypes.cast(self._array.ctypes.data, binding.TokenDataPointer)
        self._native = binding.TokenDataArray(data=self._data, size=n_vocab, selected=-1, sorted=False)
        self._reference = ctypes.byref(self._native)

    @property
    def left(self) -> tuple[Ids, Values]:
        """Ids and probabilities of what the chain has left over; it may have moved the beginning."""
        native = self._native
        first = (ctypes.cast(native.data, ctypes.c_void_p).value or 0) - self._array.ctypes.data
        part = self._array[first // self._array.itemsize :][: native.size]
        return part["id"], part["p"]

    def choose(self, chain: int, logits: npt.NDArray[np.float32], grammar: Grammar | None = None) -> int:
        """The token the chain selects, of those that the grammar allows; without a chain the likeliest one."""
        self._id[:] = self._ids
        self._logit[:] = logits
        native = self._native
        native.data, native.size, native.selected, native.sorted = self._data, len(self._ids), -1, False
        if grammar is not None:
            grammar.filter(self._reference)
        if not chain:
            return int(self._logit.argmax())
        binding.sampler_apply(chain, self._reference)
        assert 0 <= native.selected < native.size, "the chain selected nothing"
        return int(native.data[native.selected].id)


def _seed(seed: int | None) -> int:
    if seed is None or seed in (-1, RANDOM_SEED):
        return secrets.randbelow(RANDOM_SEED)
    return seed
