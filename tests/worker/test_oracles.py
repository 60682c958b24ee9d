"""The same prompt gives the same tokens, whatever happens to its cells. ENGINE.md, 20.

q8_0 KV and flash attention make logits exact as long as a sequence's cells lie in the order of its positions. A test
that uses cells again compares logits instead, step by step until a token differs, on a model of f32 weights and KV;
the bound is several times what mere company does to them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from supervisor.config import Sampling
from tests import models
from tests.worker.test_engine import Bench
from worker import park_image
from worker.parked import Parked
from worker.protocol import Text
from worker.sampling import Sampler
from worker.seams import Drop

PLENTY = 2**30
PROMPTS = ("The old mill by the river had not turned for years, and", "def fibonacci(n):", "Once upon a time")
STORY = "A long story about a fox, a dog and a hen that lived beside the old mill near the river. " * 6
GREEDY = Sampling(temperature=0.0, max_tokens=20, ignore_eos=True)
SEEDED = Sampling(seed=11, max_tokens=20, ignore_eos=True, repeat_penalty=1.1)


@pytest.fixture(scope="module")
def smollm() -> Bench:
    return Bench(models.smollm(), n_ctx=512)


@pytest.fixture(scope="module")
def steady() -> Bench:
    """Weights and KV of 32 bits: its logits depend little on the order in which cells lie."""
    return Bench(models.tiny(), n_ctx=256, kv="f32")


@pytest.fixture(scope="module")
def small() -> Bench:
    """A pool that two of its sequences fill."""
    return Bench(models.tiny(), n_ctx=256, kv_cells=512, kv="f32")


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("smollm", "steady", "small"):
        if name in request.fixturenames:
            assert not request.getfixturevalue(name).engine.pool.live


def alone(bench: Bench, prompt: str, sampling: Sampling) -> str:
    bench.new()
    return bench.reply(prompt, sampling)


def tokens(bench: Bench, prompt: str) -> list[int]:
    return bench.model.text.prompt(Text((prompt,)))


def computed(bench: Bench, ids: list[int]) -> int:
    """Prompt tokens that were really computed for these requests."""
    return sum(bench.end(id).timings.prompt_n for id in ids)


Steps = list[tuple[Any, int]]  # (logits, the token drawn) of each step of one reply


class Drawn:
    """What the samplers saw and drew, reply by reply, in the order in which they began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: dict[Sampler, Steps] = {}
        sample = Sampler.sample

        def recorded(sampler: Sampler, logits: Any) -> int:
            token = sample(sampler, logits)
            self.steps.setdefault(sampler, []).append((logits.copy(), token))
            return token

        monkeypatch.setattr(Sampler, "sample", recorded)

    def clear(self) -> None:
        self.steps.clear()

    def references(self, bench: Bench, prompts: tuple[str, ...], sampling: Sampling) -> tuple[list[Steps], float]:
        """Each prompt alone, and a bound: five times the most that company changes."""
        found = []
        for prompt in prompts:
            self.clear()
            alone(bench, prompt, sampling)
            found += list(self.steps.values())
        self.clear()
        bench.new()
        for prompt in prompts[:2]:
            bench.start(prompt, sampling)
        bench.run()
        bound = 5 * max(self.differences(found[:2]))
        assert bound < 0.1 * float(found[0][0][0].std()), "the bound would let anything pass"
        return found, bound

    def differences(self, references: list[Steps]) -> Iterator[float]:
        for reference, seen in zip(references, self.steps.values(), strict=True):
            for (expected, wanted), (logits, token) in zip(reference, seen, strict=True):
                yield float(np.abs(expected - logits).max())
                if wanted != token:
                    break

    def compare(self, references: list[Steps], bound: float) -> None:
        differences = list(self.differences(references))
        assert max(differences) <= bound
        assert len(differences) > 0.3 * sum(map(len, references)), "too little was compared"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


# -- sharing ------------------------------------------------------------------------------------------------------


def test_a_prompt_that_all_share_is_computed_once_even_if_all_come_together(smollm: Bench) -> None:
    prompts = [f"{STORY} The {animal} said" for animal in ("fox", "dog", "hen", "owl", "cow", "cat")]
    expected = [alone(smollm, prompt, GREEDY) for prompt in prompts]
    smollm.new()
    ids = [smollm.start(prompt, GREEDY) for prompt in prompts]
    smollm.run()
    assert [smollm.text(id) for id in ids] == expected
    whole = len(tokens(smollm, STORY))
    assert computed(smollm, ids) <= whole + 8 * len(prompts)


def test_when_the_leader_is_cancelled_a_follower_takes_over(smollm: Bench) -> None:
    smollm.new()
    smollm.engine._limits = type(smollm.engine._limits)(2048, 64, 0.25)
    leader, *followers = [smollm.start(f"{STORY} The {animal} said", GREEDY) for animal in ("fox", "dog", "hen")]
    smollm.engine.step()
    assert len(smollm.engine.running) == 1
    smollm.engine.obey(Drop((1, leader)))
    smollm.run()
    whole = len(tokens(smollm, STORY))
    assert computed(smollm, followers) <= whole + 16


def test_a_prefix_is_shared_with_one_who_still_generates(smollm: Bench) -> None:
    expected = alone(smollm, STORY + " The hen said", GREEDY)
    smollm.new()
    first = smollm.start(STORY + " The fox said", GREEDY)
    while not smollm.text(first):
        smollm.engine.step()
    second = smollm.start(STORY + " The hen said", GREEDY)
    smollm.run()
    assert smollm.text(second) == expected
    assert smollm.cached(second) > 100


# -- interruption -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("park", [True, False], ids=["park", "recompute"])
@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_interrupted_again_and_again_it_goes_on_as_if_nothing_were(
    steady: Bench, park: bool, sampling: Sampling, drawn: Drawn
) -> None:
    undisturbed, bound = drawn.references(steady, PROMPTS, sampling)
    for every in (1, 2, 5):
        drawn.clear()
        engine = steady.new(Parked(PLENTY if park else 0))
        ids = [steady.start(prompt, sampling) for prompt in PROMPTS]
        steps = 0
        while engine.busy:
            engine.step()
            steps += 1
            if steps % every == 0:
                engine._interrupt_one()
        drawn.compare(undisturbed, bound)
        assert computed(steady, ids) == sum(len(tokens(steady, prompt)) for prompt in PROMPTS)


@pytest.mark.parametrize("park", [True, False], ids=["park", "recompute"])
def test_more_than_the_pool_holds_is_served_without_an_error(small: Bench, park: bool, drawn: Drawn) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True)
    prompts = tuple(letter * 20 for letter in "abcd")
    undisturbed, bound = drawn.references(small, prompts, sampling)
    drawn.clear()
    engine = small.new(Parked(PLENTY if park else 0))
    ids = [small.start(prompt, sampling) for prompt in prompts]
    interrupted = 0
    while engine.busy:
        before = {id(reply): reply.interrupted for reply in engine.running}
        engine.step()
        interrupted += sum(reply.interrupted > before.get(id(reply), 9) for reply in engine.waiting.replies)
        assert engine.pool.tree.cells <= engine.pool.cells
    assert interrupted, "the pool was never short: the test shows nothing"
    drawn.compare(undisturbed, bound)
    assert [small.end(id).reason for id in ids] == ["limit"] * 4


def test_an_interrupted_request_can_be_cancelled(small: Bench) -> None:
    engine = small.new(Parked(PLENTY))
    ids = [small.start(letter * 20, Sampling(max_tokens=100, ignore_eos=True)) for letter in "ab"]
    for _ in range(5):
        engine.step()
    assert engine._interrupt_one()
    engine.obey(Drop((1, ids[1])))
    small.run()
    assert small.end(ids[0])


def test_the_less_important_one_is_interrupted(small: Bench) -> None:
    engine = small.new()
    for priority in (5, 1, 3):
        small.start("ab" * 20, Sampling(max_tokens=50, ignore_eos=True), priority=priority, cache_prompt=False)
    engine.step()
    assert engine._interrupt_one()
    assert sorted(reply.job.request.priority for reply in engine.running) == [3, 5]
    small.run()


# -- parking ------------------------------------------------------------------------------------------------------


def restarted(bench: Bench, parked: Parked, fingerprint: bytes = b"same") -> Parked:
    """What a worker that stops leaves to the next one."""
    bench.engine.parking.save_all(time.monotonic() + 60)
    fd = os.memfd_create("image")
    park_image.write(fd, b"same", parked, PLENTY, time.monotonic() + 60)
    fresh = Parked(PLENTY)
    park_image.read(fd, fingerprint, fresh)
    os.close(fd)
    return fresh


def test_an_evicted_conversation_comes_back_from_the_park(smollm: Bench) -> None:
    first, second = STORY + " The fox said", STORY + " The fox said something that nobody"
    smollm.new()
    smollm.reply(first, GREEDY)
    expected = smollm.reply(second, GREEDY)
    engine = smollm.new(Parked(PLENTY))
    smollm.reply(first, GREEDY)
    assert engine.pool.evict_all()
    again = smollm.start(second, GREEDY)
    smollm.run()
    assert smollm.text(again) == expected
    assert smollm.cached(again) > 120


def test_across_a_restart_nothing_is_computed_again(smollm: Bench) -> None:
    expected = alone(smollm, STORY + " The fox said", GREEDY)
    parked = Parked(PLENTY)
    smollm.new(parked)
    smollm.reply(STORY + " The fox said", GREEDY)
    smollm.new(restarted(smollm, parked))
    again = smollm.start(STORY + " The fox said", GREEDY)
    smollm.run()
    assert smollm.text(again) == expected
    assert smollm.end(again).timings.prompt_n <= 4


def test_an_image_of_another_model_is_refused(smollm: Bench) -> None:
    parked = Parked(PLENTY)
    smollm.new(parked)
    smollm.reply(STORY, GREEDY)
    with pytest.raises(park_image.ImageError, match="another model"):
        restarted(smollm, parked, b"other")


def test_a_damaged_state_is_computed_instead(smollm: Bench) -> None:
    expected = alone(smollm, STORY + " The fox said", GREEDY)
    parked = Parked(PLENTY)
    smollm.new(parked)
    smollm.reply(STORY + " The fox said", GREEDY)
    smollm.engine.parking.save_all(time.monotonic() + 60)
    fd = os.memfd_create("image")
    park_image.write(fd, b"same", parked, PLENTY, time.monotonic() + 60)
    os.pwrite(fd, b"\xff" * 64, os.fstat(fd).st_size - 100)
    fresh = Parked(PLENTY)
    park_image.read(fd, b"same", fresh)
    os.close(fd)
    smollm.new(fresh)
    assert smollm.reply(STORY + " The fox said", GREEDY) == expected


def test_equal_beginnings_are_parked_once(smollm: Bench) -> None:
    parked = Parked(PLENTY)
    smollm.new(parked)
    long = STORY * 2
    smollm.reply(long + " The fox said", GREEDY)
    smollm.reply(long + " The hen said", GREEDY)
    smollm.engine.parking.save_all(time.monotonic() + 60)
    assert len(parked) == len(tokens(smollm, long)) // 256 + 2 == 3
