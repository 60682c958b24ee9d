"""Complete sampling parameters → llama.cpp's samplers, in the order asked for, without those that do nothing.

The order and the conditions are those of llama.cpp's own chain (common/sampling.cpp). ENGINE.md, 8.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from supervisor.config import Sampling
from worker import binding
from worker.failure import RequestError
from worker.vocabulary import Vocabulary

Handle = Any  # a sampler of the library; its owner frees it
INFILL_TOP_K = 1000  # infill compares each candidate with each other one
_MIROSTAT_M = 100  # tokens that mirostat 1 looks at; llama.cpp's constant
_STATEFUL = ("penalties", "dry", "adaptive_p")  # want to be told each token
_KEEP_THE_BEST = frozenset(("top_n_sigma", "top_k", "top_p", "min_p"))
_MAY_DROP_THE_BEST = frozenset(("typ_p", "xtc", "infill"))


@dataclass(frozen=True, slots=True)
class Links:
    """The samplers in order; none if the largest logit is the token.

    remembers: they must be told each token. greedy: the last one takes the best, so all others have probability 0.
    lowered: all that they do is to take the largest logit once those of these tokens are lowered; None: they do more.
    """

    handles: list[Handle]
    remembers: bool
    greedy: bool
    lowered: frozenset[int] | None = None


def links(parameters: Sampling, vocabulary: Vocabulary, n_ctx: int, seed: int) -> Links:
    """The caller owns the handles. Raises RequestError for what this vocabulary cannot do."""
    p = parameters
    biases = bias(p, vocabulary)
    names = _names(p)
    if not biases and names == ["greedy"]:
        return Links([], remembers=False, greedy=True)
    make = _makers(p, vocabulary, n_ctx, seed)
    handles = [_init_bias(biases, vocabulary)] if biases else []
    handles += [make[name]() for name in names]
    lowers = names == ["greedy"] and all(amount <= 0 for _, amount in biases)
    lowered = frozenset(token for token, _ in biases) if lowers else None
    return Links(handles, any(name in _STATEFUL for name in names), names[-1] == "greedy", lowered)


def bias(p: Sampling, vocabulary: Vocabulary) -> list[tuple[int, float]]:
    """What is added to the logits of which tokens. Raises RequestError for a token that the vocabulary lacks."""
    found: list[tuple[int, float]] = []
    for token, amount in p.logit_bias or ():
        if isinstance(token, str):
            found += [(each, amount) for each in vocabulary.tokenize(token, special=False)]
        elif token < vocabulary.size:
            found.append((token, amount))
        else:
            text = f"logit_bias: token {token} is not in the vocabulary (0 to {vocabulary.size - 1})"
            raise RequestError("invalid_value", text, param="logit_bias")
    if p.ignore_eos:
        found += [(token, -math.inf) for token in sorted(vocabulary.end)]
    return found


def check(p: Sampling, vocabulary: Vocabulary) -> None:
    """Raises RequestError for what this vocabulary cannot do."""
    bias(p, vocabulary)
    names = _names(p)
    if "infill" in names:
        before = names[: names.index("infill")]
        if "top_k" not in before or (p.top_k or 0) > INFILL_TOP_K:
            text = f"samplers: infill needs top_k, from 1 to {INFILL_TOP_K}, before it"
            raise RequestError("invalid_value", text, param="samplers")
        if vocabulary.eos < 0:
            raise RequestError("unsupported_feature", "this model has no end token for infill", feature="infill")


def _names(p: Sampling) -> list[str]:
    """The samplers that do something, the one that selects last."""
    cold = not p.temperature and not p.dynatemp_range
    if p.mirostat:
        return ["greedy"] if cold else ["temperature", "mirostat"]
    found = [name for name in p.samplers or () if name != "adaptive_p" and _acts(name, p)]
    if cold and "temperature" in found:
        found = found[: found.index("temperature")]  # at 0 only the largest logit is left
        if not _MAY_DROP_THE_BEST.intersection(found):
            found = [name for name in found if name not in _KEEP_THE_BEST]
        return [*found, "greedy"]
    return [*found, "adaptive_p" if "adaptive_p" in (p.samplers or ()) else "dist"]


def _acts(name: str, p: Sampling) -> bool:
    match name:
        case "penalties":
            return p.repeat_last_n != 0 and (p.repeat_penalty, p.frequency_penalty, p.presence_penalty) != (1, 0, 0)
        case "dry":
            return bool(p.dry_multiplier and p.dry_penalty_last_n)
        case "top_n_sigma":
            return p.top_n_sigma is not None and p.top_n_sigma > 0
        case "top_k":
            return p.top_k is not None and p.top_k > 0
        case "typ_p":
            return p.typical_p is not None and p.typical_p < 1
        case "top_p":
            return p.top_p is not None and p.top_p < 1
        case "min_p":
            return bool(p.min_p)
        case "xtc":
            return bool(p.xtc_probability) and p.xtc_threshold is not None and p.xtc_threshold <= 0.5
        case "temperature":
            return p.temperature != 1 or bool(p.dynatemp_range)
    return True


def _makers(p: Sampling, vocabulary: Vocabulary, n_ctx: int, seed: int) -> dict[str, Callable[[], Handle]]:
    keep = p.min_keep

    def mirostat() -> Handle:
        if p.mirostat == 2:
            return binding.sampler_init_mirostat_v2(seed, p.mirostat_tau, p.mirostat_eta)
        return binding.sampler_init_mirostat(vocabulary.size, seed, p.mirostat_tau, p.mirostat_eta, _MIROSTAT_M)

    return {
        "penalties": lambda: binding.sampler_init_penalties(
            vocabulary.size, _last(p.repeat_last_n, n_ctx), p.repeat_penalty, p.frequency_penalty, p.presence_penalty
        ),
        "dry": lambda: _init_dry(p, vocabulary, n_ctx),
        "top_n_sigma": lambda: binding.sampler_init_top_n_sigma(p.top_n_sigma),
        "top_k": lambda: binding.sampler_init_top_k(p.top_k),
        "typ_p": lambda: binding.sampler_init_typical(p.typical_p, keep),
        "top_p": lambda: binding.sampler_init_top_p(p.top_p, keep),
        "min_p": lambda: binding.sampler_init_min_p(p.min_p, keep),
        "xtc": lambda: binding.sampler_init_xtc(p.xtc_probability, p.xtc_threshold, keep, seed),
        "temperature": lambda: binding.sampler_init_temp_ext(p.temperature, p.dynatemp_range, p.dynatemp_exponent),
        "infill": lambda: binding.sampler_init_infill(vocabulary.handle),
        "mirostat": mirostat,
        "greedy": binding.sampler_init_greedy,
        "dist": lambda: binding.sampler_init_dist(seed),
        "adaptive_p": lambda: binding.sampler_init_adaptive_p(p.adaptive_target, p.adaptive_decay, seed),
    }


def _init_bias(biases: list[tuple[int, float]], vocabulary: Vocabulary) -> Handle:
    pairs = (binding.LogitBias * len(biases))(*biases)
    return binding.sampler_init_logit_bias(vocabulary.size, len(pairs), pairs)


def _init_dry(p: Sampling, vocabulary: Vocabulary, n_ctx: int) -> Handle:
    last_n = _last(p.dry_penalty_last_n, n_ctx)
    model = _dry(vocabulary, p.dry_multiplier, p.dry_base, p.dry_allowed_length, last_n, p.dry_sequence_breakers or ())
    return binding.sampler_clone(model.handle)


class _Dry:
    """A DRY sampler to make copies of: a new one looks each breaker up in each token, 8 ms of a 49k vocabulary."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        weakref.finalize(self, binding.sampler_free, handle).atexit = False


@lru_cache(maxsize=16)
def _dry(
    vocabulary: Vocabulary,
    multiplier: float | None,
    base: float | None,
    allowed: int | None,
    last_n: int,
    breakers: tuple[str, ...],
) -> _Dry:
    texts = [text.encode("utf-8", "replace") for text in breakers]
    array = (ctypes.c_char_p * len(texts))(*texts)
    return _Dry(binding.sampler_init_dry(vocabulary.handle, multiplier, base, allowed, last_n, array, len(texts)))


def _last(count: int | None, n_ctx: int) -> int:
    """So many tokens back: -1 means the context, which llama.cpp no longer knows; more than that there is none."""
    return n_ctx if count is None or count < 0 else min(count, n_ctx)
