"""Sampling parameters → llama.cpp's sampler chain, in its order, without samplers that do nothing. ENGINE.md, 8."""

from __future__ import annotations

import ctypes
import secrets
from typing import Protocol

import numpy as np
import numpy.typing as npt

from supervisor.config import Sampling
from worker import binding
from worker.vocabulary import Vocabulary

DEFAULTS = Sampling(
    temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0,
    repeat_last_n=64, max_tokens=-1, ignore_eos=False,
)  # fmt: skip
_RANDOM_SEED = 2**32 - 1  # llama.cpp's word for "any"
_FROM_GGUF = {
    "temperature": ("temp", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "repeat_penalty": ("penalty_repeat", float),
    "repeat_last_n": ("penalty_last_n", int),
}


class Meta(Protocol):
    """Answers with the text of a GGUF key, or None."""

    def __call__(self, key: str, /) -> str | None: ...


def from_gguf(meta: Meta) -> Sampling:
    """What the file recommends under `general.sampling.*`; values that are no numbers are ignored."""
    found: dict[str, float] = {}
    for name, (key, kind) in _FROM_GGUF.items():
        try:
            found[name] = kind(meta(f"general.sampling.{key}") or "")
        except ValueError:
            continue
    return Sampling(**found)  # type: ignore[arg-type]


def effective(model: Sampling, gguf: Sampling) -> Sampling:
    """A model's defaults: its configuration over its file over llama.cpp's; only the seed may be unset."""
    return model.over(gguf.over(DEFAULTS))


class Sampler:
    """Draws the tokens of one sequence. `close` frees the chain."""

    def __init__(self, parameters: Sampling, vocabulary: Vocabulary, n_ctx: int, candidates: Candidates) -> None:
        """`parameters` are complete, as `effective` makes them; `candidates` is shared by the samplers of a thread."""
        self._candidates = candidates
        self._chain = 0
        self._remembers = _penalties(parameters)
        self.seed = _seed(parameters.seed)
        links = _links(parameters, vocabulary, n_ctx, self.seed)
        if links == ["greedy"]:
            return
        self._chain = binding.sampler_chain_init(binding.sampler_chain_default_params())
        for link in links:
            binding.sampler_chain_add(self._chain, binding.sampler_init_greedy() if link == "greedy" else link)

    def remember(self, tokens: npt.NDArray[np.int32]) -> None:
        """Counts the prompt's tokens for the penalties."""
        if self._chain and self._remembers:
            for token in tokens.tolist():
                binding.sampler_accept(self._chain, token)

    def sample(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token for a row of logits, shape (n_vocab,)."""
        if not self._chain:
            return int(logits.argmax())
        token = self._candidates.choose(self._chain, logits)
        if self._remembers:
            binding.sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
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

    def choose(self, chain: int, logits: npt.NDArray[np.float32]) -> int:
        """The token the chain selects."""
        self._id[:] = self._ids
        self._logit[:] = logits
        native = self._native
        native.data, native.size, native.selected, native.sorted = self._data, len(self._ids), -1, False
        binding.sampler_apply(chain, self._reference)
        assert 0 <= native.selected < native.size, "the chain selected nothing"
        return int(native.data[native.selected].id)


def _links(parameters: Sampling, vocabulary: Vocabulary, n_ctx: int, seed: int) -> list[int | str]:
    """The chain's samplers in order; just ["greedy"] if nothing but the maximum counts."""
    p = parameters
    links: list[int | str] = []
    if p.ignore_eos and vocabulary.end:
        bias = (binding.LogitBias * len(vocabulary.end))(*((token, float("-inf")) for token in sorted(vocabulary.end)))
        links.append(binding.sampler_init_logit_bias(vocabulary.size, len(bias), bias))
    if _penalties(p):
        last_n = n_ctx if p.repeat_last_n == -1 else p.repeat_last_n
        links.append(
            binding.sampler_init_penalties(
                vocabulary.size, last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty
            )
        )
    if not p.temperature:
        return [*links, "greedy"]
    if p.top_k and p.top_k > 0:
        links.append(binding.sampler_init_top_k(p.top_k))
    if p.top_p is not None and p.top_p < 1:
        links.append(binding.sampler_init_top_p(p.top_p, 0))
    if p.min_p:
        links.append(binding.sampler_init_min_p(p.min_p, 0))
    if p.temperature != 1:
        links.append(binding.sampler_init_temp(p.temperature))
    return [*links, binding.sampler_init_dist(seed)]


def _penalties(p: Sampling) -> bool:
    return p.repeat_last_n != 0 and (p.repeat_penalty != 1 or p.frequency_penalty != 0 or p.presence_penalty != 0)


def _seed(seed: int | None) -> int:
    if seed is None or seed in (-1, _RANDOM_SEED):
        return secrets.randbelow(_RANDOM_SEED)
    return seed
