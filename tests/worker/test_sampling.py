"""Our chain against llama.cpp's own: llama_sampler_sample over a whole chain, no-ops included, on the same logits."""

from __future__ import annotations

import ctypes
import math
import random
from collections.abc import Iterator
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np
import pytest

from supervisor.config import LLAMA_DEFAULTS, Model, Sampling
from supervisor.samplers import ORDER
from tests import models
from worker.context import Context
from worker.failure import RequestError
from worker.main import Llama, LlamaModel
from worker.sampling import Candidates, Sampler, effective, from_gguf
from worker.seams import Load
from worker.sequences import Sequence as Running

PROMPT = list(b"the quick brown fox jumps over the quick brown dog: the quick brown")
SEED = 12345
STEPS = 12
ALONE: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0, "repeat_penalty": 1.5},
    {"temperature": 0, "xtc_probability": 1, "xtc_threshold": 0.001},
    {"temperature": 0, "typical_p": 0.3},
    {"temperature": 0, "dynatemp_range": 2},
    {"temperature": 2.5, "top_k": 0, "top_p": 1, "min_p": 0},
    {"dynatemp_range": 0.7, "dynatemp_exponent": 2},
    {"top_k": 3},
    {"top_p": 0.2},
    {"min_p": 0.5},
    {"min_p": 1, "top_p": 0, "min_keep": 4},
    {"typical_p": 0.3},
    {"top_n_sigma": 1},
    {"top_n_sigma": 0},
    {"xtc_probability": 0.7, "xtc_threshold": 0.01},
    {"xtc_probability": 0.7, "xtc_threshold": 0.6},
    {"repeat_penalty": 1.9},
    {"frequency_penalty": 1.5},
    {"presence_penalty": 3},
    {"repeat_penalty": 2, "repeat_last_n": -1},
    {"repeat_penalty": 2, "repeat_last_n": 0},
    {"dry_multiplier": 3},
    {"dry_multiplier": 3, "dry_penalty_last_n": -1, "dry_allowed_length": 1, "dry_base": 3},
    {"dry_multiplier": 3, "dry_sequence_breakers": ("quick", "ö")},
    {"mirostat": 1},
    {"mirostat": 2, "mirostat_tau": 2, "mirostat_eta": 0.5},
    {"adaptive_target": 0.3, "samplers": ("top_k", "adaptive_p")},
    {"samplers": ()},
    {"samplers": ("temperature", "top_k"), "temperature": 3},
    {"samplers": ("top_k", "infill")},
    {"logit_bias": ((65, 100.0),)},
    {"logit_bias": tuple((token, -math.inf) for token in range(200))},
    {"ignore_eos": True, "temperature": 20},
    {"temperature": 0, "ignore_eos": True},
    {"temperature": 0, "logit_bias": ((65, 100.0),)},
    {"temperature": 0, "logit_bias": tuple((token, -math.inf) for token in range(200))},
    {"temperature": 0, "logit_bias": tuple((token, -0.1 * (token % 7)) for token in range(256))},
]


def drawn(number: int) -> dict[str, Any]:
    """A random set of parameters."""
    rng = random.Random(number)
    every: dict[str, Any] = {
        "temperature": rng.choice([0, 0.5, 1, 1.7]),
        "dynatemp_range": rng.choice([0, 0.4]),
        "top_k": rng.choice([-1, 5, 60]),
        "top_p": rng.uniform(0.5, 1),
        "min_p": rng.uniform(0, 0.2),
        "typical_p": rng.uniform(0.5, 1),
        "top_n_sigma": rng.uniform(-1, 3),
        "xtc_probability": rng.random(),
        "xtc_threshold": rng.uniform(0, 0.3),
        "min_keep": rng.randrange(4),
        "repeat_penalty": rng.uniform(1, 2),
        "presence_penalty": rng.uniform(-1, 1),
        "dry_multiplier": rng.choice([0, 0.8]),
        "samplers": tuple(rng.sample(ORDER, rng.randint(3, len(ORDER)))),
    }
    return {name: every[name] for name in rng.sample(sorted(every), 7)}


class Logits:
    """A context that has computed the same rows for both chains."""

    def __init__(self) -> None:
        kind = Llama()
        kind.prepare()
        loaded = kind.load(Load(Model(name="m", path=models.tiny(), n_ctx=256, parallel=1), 1, -1), lambda _: True)
        assert isinstance(loaded, LlamaModel)
        self.context: Context = loaded._context
        self.vocabulary = self.context.model.vocabulary
        self.candidates = Candidates(self.vocabulary.size)

    def rows(self) -> Iterator[int]:
        """After each decode, the index of a row of logits; the text goes on by a fixed token, whatever is sampled."""
        self.context.clear()
        slot = Running((), 256, id=0)
        for token in PROMPT:
            slot.append(token)
        for step in range(STEPS):
            (index,) = self.context.fill([], [(slot, slot.missing)])
            assert self.context.decode() == 0
            slot.held = slot.size
            yield index
            slot.append(97 + step)

    def ours(self, p: Sampling) -> Sampler:
        sampler = Sampler(p, self.vocabulary, self.context.n_ctx)
        sampler.remember(np.array(PROMPT, np.int32))
        return sampler

    def theirs(self, p: Sampling) -> Any:
        """The chain as llama.cpp's common/sampling.cpp describes it."""
        n_vocab, n_ctx, vocab = self.vocabulary.size, self.context.n_ctx, self.vocabulary.handle
        chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
        assert p.logit_bias is not None
        pairs = list(p.logit_bias)
        pairs += [(token, -math.inf) for token in sorted(self.vocabulary.end)] if p.ignore_eos else []
        array = (native.llama_logit_bias * len(pairs))(*pairs)
        breakers = [text.encode() for text in p.dry_sequence_breakers or ()]
        words = (ctypes.c_char_p * len(breakers))(*breakers)
        repeat_n = n_ctx if p.repeat_last_n == -1 else p.repeat_last_n
        dry_n = n_ctx if p.dry_penalty_last_n == -1 else p.dry_penalty_last_n
        make: dict[str, Any] = {
            "penalties": lambda: native.llama_sampler_init_penalties(
                n_vocab, repeat_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty
            ),
            "dry": lambda: native.llama_sampler_init_dry(
                vocab, p.dry_multiplier, p.dry_base, p.dry_allowed_length, dry_n, words, len(breakers)
            ),
            "top_n_sigma": lambda: native.llama_sampler_init_top_n_sigma(p.top_n_sigma),
            "top_k": lambda: native.llama_sampler_init_top_k(p.top_k),
            "typ_p": lambda: native.llama_sampler_init_typical(p.typical_p, p.min_keep),
            "top_p": lambda: native.llama_sampler_init_top_p(p.top_p, p.min_keep),
            "min_p": lambda: native.llama_sampler_init_min_p(p.min_p, p.min_keep),
            "xtc": lambda: native.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, p.min_keep, SEED),
            "temperature": lambda: native.llama_sampler_init_temp_ext(
                p.temperature, p.dynatemp_range, p.dynatemp_exponent
            ),
            "infill": lambda: native.llama_sampler_init_infill(vocab),
        }
        parts = [native.llama_sampler_init_logit_bias(n_vocab, len(pairs), array)]
        if p.mirostat:
            parts.append(native.llama_sampler_init_temp(p.temperature))
            one = (n_vocab, SEED, p.mirostat_tau, p.mirostat_eta, 100)
            two = (SEED, p.mirostat_tau, p.mirostat_eta)
            first = p.mirostat == 1
            v1, v2 = native.llama_sampler_init_mirostat, native.llama_sampler_init_mirostat_v2
            parts.append(v1(*one) if first else v2(*two))
        else:
            assert p.samplers is not None
            parts += [make[name]() for name in p.samplers if name != "adaptive_p"]
            adaptive = "adaptive_p" in p.samplers
            parts.append(
                native.llama_sampler_init_adaptive_p(p.adaptive_target, p.adaptive_decay, SEED)
                if adaptive
                else native.llama_sampler_init_dist(SEED)
            )
        for part in parts:
            native.llama_sampler_chain_add(chain, part)
        for token in PROMPT:
            native.llama_sampler_accept(chain, token)
        return chain


@pytest.fixture(scope="module")
def logits() -> Logits:
    return Logits()


@pytest.mark.parametrize("said", [*ALONE, *map(drawn, range(40))], ids=str)
def test_the_chain_draws_what_llama_cpp_draws(logits: Logits, said: dict[str, Any]) -> None:
    parameters = Sampling(**said, seed=SEED).over(LLAMA_DEFAULTS)
    ours, theirs = logits.ours(parameters), logits.theirs(parameters)
    pairs = []
    for index in logits.rows():
        expected = native.llama_sampler_sample(theirs, logits.context.handle, index)
        pairs.append((ours.sample(logits.context.logits(index), logits.candidates), expected))
    ours.close()
    native.llama_sampler_free(theirs)
    assert [ours for ours, _ in pairs] == [theirs for _, theirs in pairs]


def test_a_bias_by_text_is_a_bias_of_its_tokens(logits: Logits) -> None:
    found = logits.ours(Sampling(temperature=0, logit_bias=(("Z", 1000.0),)).over(LLAMA_DEFAULTS))
    for index in logits.rows():
        assert found.sample(logits.context.logits(index), logits.candidates) == ord("Z")
    found.close()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"logit_bias": ((10**6, 1.0),)}, "not in the vocabulary"),
        ({"samplers": ("infill",)}, "infill needs top_k"),
        ({"samplers": ("top_k", "infill"), "top_k": 0}, "infill needs top_k"),
        ({"samplers": ("top_k", "infill"), "top_k": 5000}, "infill needs top_k"),
        ({"samplers": ("infill", "top_k")}, "infill needs top_k"),
    ],
)
def test_what_a_vocabulary_cannot_do_is_refused(logits: Logits, said: dict[str, Any], words: str) -> None:
    from worker import chain

    with pytest.raises(RequestError, match=words):
        chain.check(Sampling(**said).over(LLAMA_DEFAULTS), logits.vocabulary)


def test_what_the_file_recommends() -> None:
    keys = {
        "temp": "0.300000", "top_k": "7", "xtc_threshold": "0.2", "penalty_repeat": "-5", "mirostat": "2.000000",
        "sequence": "top_k;temp;nonsense", "min_p": "many",
    }  # fmt: skip
    found = from_gguf(lambda key: keys.get(key.removeprefix("general.sampling.")))
    assert found == Sampling(temperature=0.3, top_k=7, xtc_threshold=0.2, mirostat=2, samplers=("top_k", "temperature"))
    assert effective(Sampling(top_k=1), found) == Sampling(top_k=1).over(found).over(LLAMA_DEFAULTS)
