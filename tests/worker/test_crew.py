"""Sampling on several threads: the same tokens, whoever draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from supervisor.config import LLAMA_DEFAULTS, Sampling
from tests.worker.test_engine import Bench
from worker.crew import WORTH, Crew
from worker.failure import RequestError
from worker.sampling import Sampler

HEAVY = {"top_k": 0, "repeat_penalty": 1.2, "temperature": 1.3}
LIGHT = {"top_k": 20}


def samplers(bench: Bench, count: int, **keys: Any) -> list[Sampler]:
    vocabulary = bench.model._context.model.vocabulary
    chosen = [Sampling(seed=seed, **keys).over(LLAMA_DEFAULTS) for seed in range(count)]
    return [Sampler(each, vocabulary, 256) for each in chosen]


def texts(bench: Bench, crew: Crew, steps: int = 6, **keys: Any) -> list[list[Any]]:
    """What 9 samplers draw from rows that differ."""
    random = np.random.default_rng(1)
    mine = samplers(bench, 9, **keys)
    n_vocab = bench.model.facts.n_vocab
    drawn = []
    for _ in range(steps):
        rows = random.normal(0, 4, (9, n_vocab)).astype(np.float32)
        drawn.append(crew.draw(list(zip(mine, rows, strict=True))))
    for sampler in mine:
        sampler.close()
    return drawn


@pytest.mark.parametrize("keys", [HEAVY, LIGHT], ids=["heavy", "light"])
def test_one_thread_or_four_draw_the_same(smollm: Bench, keys: dict[str, Any]) -> None:
    n_vocab = smollm.model.facts.n_vocab
    assert texts(smollm, Crew(n_vocab, 1), **keys) == texts(smollm, Crew(n_vocab, 4), **keys)


def test_threads_are_woken_for_work_that_is_worth_it(smollm: Bench) -> None:
    crew = Crew(smollm.model.facts.n_vocab, 4)
    texts(smollm, crew, **LIGHT, temperature=0.0)
    assert crew._pool is None
    texts(smollm, crew, **HEAVY)
    assert crew._pool is not None


def test_who_finds_no_token_says_so_and_harms_nobody(smollm: Bench) -> None:
    crew = Crew(smollm.model.facts.n_vocab, 3)
    mine = samplers(smollm, 5)
    row = np.zeros(smollm.model.facts.n_vocab, np.float32)
    for sampler in mine:
        sampler.seconds = WORTH

    def dead_end(*_: Any) -> int:
        raise RequestError("invalid_grammar", "dead end")

    mine[3].sample = dead_end  # type: ignore[method-assign]
    found = crew.draw([(sampler, row) for sampler in mine])
    assert [isinstance(each, RequestError) for each in found] == [False, False, False, True, False]


def test_the_engine_draws_the_same_with_one_thread_and_with_many(smollm: Bench) -> None:
    def together(threads: int) -> list[str]:
        engine = smollm.new()
        engine._crew = Crew(smollm.model.facts.n_vocab, threads)
        ids = [smollm.start(f"{word} is", Sampling(seed=7, max_tokens=8, **HEAVY)) for word in ("This", "That", "It")]
        smollm.run()
        return [smollm.text(id) for id in ids]

    assert together(1) == together(4)
