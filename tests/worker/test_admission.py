"""Who begins, on a real engine whose pool is small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisor.config import Sampling
from tests import model_classes
from tests.worker.test_engine import Bench
from worker.protocol import Started

LONG = Sampling(temperature=0.0, max_tokens=120, ignore_eos=True)
SHORT = Sampling(temperature=0.0, max_tokens=2, ignore_eos=True)


@pytest.fixture(scope="module")
def crowded() -> Bench:
    """Four may run, but cells are few."""
    return Bench(model_classes.path("gqa"), n_ctx=512, kv_cells=512)


@pytest.fixture
def bench(crowded: Bench) -> Iterator[Bench]:
    crowded.new()
    crowded.events.clear()
    yield crowded
    crowded.run()
    assert not crowded.engine.pool.live


def began(bench: Bench) -> list[int]:
    return [event.id for event in bench.events if isinstance(event, Started)]


def fill(bench: Bench) -> list[int]:
    """Four that run, each on a prompt of its own."""
    ids = [bench.start(letter * 10, LONG) for letter in "abcd"]
    bench.engine.step()
    assert began(bench) == ids
    return ids


def test_the_more_urgent_begins_first(bench: Bench) -> None:
    fill(bench)
    ids = {priority: bench.start(f"{priority} urgent", SHORT, priority=priority) for priority in (0, 2, 1)}
    bench.run()
    assert began(bench)[4:] == [ids[2], ids[1], ids[0]]


def test_two_owners_take_turns_whoever_asks_more(bench: Bench) -> None:
    fill(bench)
    for number in range(6):
        bench.start(f"{number} of a crowd", LONG, owner="many")
    one = bench.start("just one", SHORT, owner="one")
    bench.run()
    assert began(bench)[4:].index(one) <= 1


def test_who_does_not_fit_is_passed_by_those_who_do_but_not_for_ever(bench: Bench) -> None:
    running = [bench.start("a" * 10, Sampling(temperature=0.0, max_tokens=400, ignore_eos=True))]
    for _ in range(100):
        bench.engine.step()
    big = bench.start("b" * 460, SHORT)
    small = [bench.start(f"{number:02d} small", SHORT) for number in range(20)]
    bench.run()
    order = [id for id in began(bench) if id not in running]
    assert order.index(big) <= 8
    assert order[0] in small
    assert len(order) == 21


def test_what_fits_alone_is_served_however_large(bench: Bench) -> None:
    for number in range(3):
        bench.start(f"{number}" * 100, SHORT)
    bench.run()
    id = bench.start("z" * 505, Sampling(temperature=0.0, max_tokens=-1, ignore_eos=True))
    bench.run()
    end = bench.end(id)
    assert (end.reason, end.timings.prompt_n + end.timings.predicted_n) == ("context", 512)


def test_the_output_of_those_who_run_is_not_starved_by_prompts(bench: Bench) -> None:
    ids = fill(bench)
    for number in range(4):
        bench.start(f"{number}" * 90, SHORT)
    bench.run()
    assert [bench.end(id).reason for id in ids] == ["limit"] * 4
