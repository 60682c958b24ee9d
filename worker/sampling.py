"""Logits → tokens: where parameters come from, and the drawing of one sequence. ENGINE.md, 8."""

from __future__ import annotations

import contextlib
import ctypes
import math
import secrets
from typing import Protocol

import numpy as np
import numpy.typing as npt

from supervisor.config import LLAMA_DEFAULTS, Sampling
from supervisor.schema import Invalid, convert
from worker import binding
from worker.chain import links
from worker.grammar import Rules, dead_end
from worker.guide import Guide
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
        guide: Guide | None = None,
    ) -> None:
        """`parameters` are complete, as `effective` makes them; `guide` is closed with the sampler."""
        self._guide, self._end = guide, vocabulary.end
        self._was_forced = False
        self._candidates: Candidates | None = None  # those that the last token was drawn from
        self._chain = 0
        self.seconds = 0.0  # that a token takes, on average
        self.parameters = parameters
        self.seed = _seed(parameters.seed)
        found = links(parameters, vocabulary, n_ctx, self.seed)
        self._remembers, self._greedy, self._lowered = found.remembers, found.greedy, found.lowered
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

    def sample(self, logits: npt.NDArray[np.float32], candidates: Candidates) -> int:
        """The next token for a row of logits, shape (n_vocab,). Raises RequestError at a grammar's dead end.

        `candidates` belong to the calling thread.
        """
        guide = self._guide
        self._candidates = candidates
        forced = None if guide is None else guide.forced()
        if forced is not None:
            token = forced
        else:
            token = self._free(logits, candidates)
            if guide is not None and guide.binds:
                token = self._constrained(guide, token, logits, candidates)
        if self._remembers:
            binding.sampler_accept(self._chain, token)
        self._drawn, self._was_forced = token, forced is not None
        return token

    def _free(self, logits: Values, candidates: Candidates) -> int:
        """The token that the chain selects, whatever a guide says of it."""
        if self._chain and self._lowered is None:
            return candidates.choose(self._chain, logits)
        best = int(logits.argmax())
        # no other logit is raised, so the largest stays it unless it is lowered itself: 0.07 ms less than the chain
        return candidates.choose(self._chain, logits) if self._lowered and best in self._lowered else best

    def _constrained(self, rules: Rules, token: int, logits: Values, candidates: Candidates) -> int:
        """The token if the rules allow it, else one drawn from those that they allow; they accept it."""
        if not rules.allows(token):
            token = candidates.choose(self._chain, logits, rules)
            if token < 0:  # nothing is left; a reply that is complete may end
                token = next((end for end in self._end if rules.allows(end)), -1)
            if token < 0:
                raise dead_end()
        rules.accept(token)
        return token

    def distribution(self) -> tuple[Ids, Values]:
        """Tokens and their probabilities after the chain, for the token just drawn; views, for the moment only."""
        if self._greedy or self._was_forced:
            return np.array([self._drawn], np.int32), np.ones(1, np.float32)
        assert self._candidates is not None, "nothing was drawn"
        return self._candidates.left

    def close(self) -> None:
        if self._guide:
            self._guide.close()
        if self._chain:
            binding.sampler_free(self._chain)
            self._chain = 0


class Candidates:
    """The array (id, logit, p) that a chain works on, filled anew for each token. One thread's own.

    shares: other threads run Python meanwhile. The call that allows it costs up to 0.3 ms where one does.
    """

    def __init__(self, n_vocab: int, *, shares: bool = False) -> None:
        self._apply = binding.sampler_apply_long if shares else binding.sampler_apply
        self._array = np.zeros(n_vocab, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._id, self._logit = self._array["id"], self._array["logit"]
        self._data = ctypes.cast(self._array.ctypes.data, binding.TokenDataPointer)
        self._native = binding.TokenDataArray(data=self._data, size=n_vocab, selected=-1, sorted=False)
        self.reference = ctypes.byref(self._native)

    @property
    def left(self) -> tuple[Ids, Values]:
        """Ids and probabilities of what the chain has left over; it may have moved the beginning."""
        native = self._native
        first = (ctypes.cast(native.data, ctypes.c_void_p).value or 0) - self._array.ctypes.data
        part = self._array[first // self._array.itemsize :][: native.size]
        return part["id"], part["p"]

    def keep(self, ids: npt.NDArray[np.intp]) -> None:
        """Forgets all candidates but these, whose ids ascend; for a pool that no sampler has touched."""
        count = len(ids)
        self._logit[:count] = self._logit[ids]
        self._id[:count] = ids
        self._native.size = count

    def keep_finite(self) -> None:
        """Forgets the candidates whose logit is −∞."""
        self.keep(np.flatnonzero(self._logit != -np.inf))

    def choose(self, chain: int, logits: npt.NDArray[np.float32], rules: Rules | None = None) -> int:
        """The token the chain selects, of those that the rules allow; without a chain the likeliest one.

        -1 if there is none: the rules allow nothing, or the chain's biases forbid all that they allow.
        """
        self._id[:] = self._ids
        self._logit[:] = logits
        native = self._native
        native.data, native.size, native.selected, native.sorted = self._data, len(self._ids), -1, False
        if rules is not None:
            rules.restrict(self)
            if not native.size:
                return -1
        if not chain:
            return int(self._id[self._logit[: native.size].argmax()])
        self._apply(chain, self.reference)
        assert 0 <= native.selected < native.size, "the chain selected nothing"
        selected = native.data[native.selected]
        return -1 if rules is not None and selected.logit == -math.inf else int(selected.id)


def _seed(seed: int | None) -> int:
    if seed is None or seed in (-1, RANDOM_SEED):
        return secrets.randbelow(RANDOM_SEED)
    return seed
