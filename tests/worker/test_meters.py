"""Meters and places: alone, and that what they say is what the requests' own timings said."""

from __future__ import annotations

import pytest

from supervisor.config import Sampling
from supervisor.figures import Series
from tests import models
from tests.worker.test_engine import Bench, choices
from worker.meters import Meters, Speed
from worker.protocol import Finished, Place, Started
from worker.seams import Drop

FREE = Sampling(temperature=1.0, seed=1, max_tokens=12, ignore_eos=True)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def tiny() -> Bench:
    return Bench(models.tiny(), n_ctx=256)


def figures(bench: Bench) -> dict[str, tuple[float, ...]]:
    found: list[Series] = bench.engine.vitals.meters.series(0, 0)
    return {each.name.removeprefix("llamacpp:").removeprefix("llama_supervisor_"): each.values for each in found}


def test_steps_are_counted_by_hand() -> None:
    clock = Clock()
    meters = Meters(clock)
    meters.begun(99.5, 3)
    clock.now = 101.0
    meters.stepped(0, 2, 50, 50, 0.5, 100.75)  # two prompts
    clock.now = 101.5
    meters.stepped(3, 0, 0, 3, 0.25, 101.25)  # three replies
    clock.now = 101.75
    meters.stepped(3, 1, 10, 13, 0.25, 101.75)  # both
    meters.left(40)
    meters.left(30)
    found = {each.name: each.values for each in meters.series(1, 2)}
    assert {name: values[0] for name, values in found.items() if len(values) == 1} == {
        "llamacpp:prompt_tokens_total": 60,
        "llamacpp:prompt_tokens_cached_total": 3,
        "llamacpp:prompt_seconds_total": 1.25,
        "llamacpp:tokens_predicted_total": 0,
        "llamacpp:tokens_predicted_seconds_total": 3 * 0.5 + 3 * 0.25,
        "llamacpp:n_decode_total": 3,
        "llamacpp:n_tokens_max": 40,
        "llamacpp:prompt_tokens_seconds": 0.0,
        "llamacpp:predicted_tokens_seconds": 0.0,
        "llamacpp:requests_processing": 1,
        "llamacpp:requests_deferred": 2,
        "llama_supervisor_busy_sequences_total": 9,
        "llama_supervisor_decode_seconds_total": 1.0,
        "llama_supervisor_sampling_seconds_total": 0.5,
    }
    assert sum(found["llama_supervisor_inter_token_seconds"][:-1]) == 6
    assert found["llama_supervisor_batch_tokens"][-1] == 50 + 3 + 13
    assert found["llama_supervisor_sequence_wait_seconds"][-1] == 0.5


def test_speed_is_that_of_the_last_minute() -> None:
    speed = Speed()
    assert speed.rate == 0.0
    speed.add(0.0, 0, 0.0)
    speed.add(1.0, 100, 1.0)
    assert speed.rate == 100.0
    speed.add(100.0, 110, 2.0)
    assert speed.rate == 10.0
    speed.add(161.0, 110, 2.0)
    assert speed.rate == 0.0


@pytest.mark.parametrize("n", [1, 3])
def test_figures_equal_the_timings_of_the_requests(tiny: Bench, n: int) -> None:
    tiny.new()
    for prompt in ("abc " * 20, "abc " * 20 + "d", "xyz"):
        choices(tiny, prompt, FREE, n)
    tiny.start("abc", Sampling(max_tokens=0))
    before = len(tiny.events)
    tiny.run()
    ends = [event.timings for event in tiny.events[before:] if isinstance(event, Finished)]
    begun = [event for event in tiny.events[before:] if isinstance(event, Started)]
    assert len(ends) == len(begun) == 3 * n + 1
    found = figures(tiny)
    assert found["tokens_predicted_total"] == (sum(end.predicted_n for end in ends),) == (36.0 * n,)
    assert found["prompt_tokens_total"] == (sum(end.prompt_n for end in ends),)
    assert found["prompt_tokens_cached_total"] == (sum(end.cache_n for end in ends),)
    assert found["prompt_seconds_total"][0] * 1000 == pytest.approx(sum(end.prompt_ms for end in ends))
    spent = sum(end.predicted_ms for end in ends)
    assert found["tokens_predicted_seconds_total"][0] * 1000 == pytest.approx(spent, rel=0.2, abs=2)
    assert sum(found["inter_token_seconds"][:-1]) == 11 * 3 * n
    assert sum(found["batch_tokens"][:-1]) == found["n_decode_total"][0] == tiny.engine.vitals.steps
    assert sum(found["sequence_wait_seconds"][:-1]) == 4
    assert found["n_tokens_max"][0] == max(end.cache_n + end.prompt_n + 11 for end in ends)


def test_an_interrupted_reply_counts_its_tokens_once_and_its_wait(tiny: Bench) -> None:
    engine = tiny.new()
    ids = [tiny.start(prompt, FREE) for prompt in ("abc " * 10, "xyz " * 10)]
    for _ in range(4):
        engine.step()
    assert engine._interrupt_one()
    assert sum(place.busy for place in engine.vitals.places.show()) == 1
    tiny.run()
    ends = [tiny.end(id).timings for id in ids]
    found = figures(tiny)
    assert found["tokens_predicted_total"] == (24,)
    assert found["prompt_tokens_total"] == (sum(end.prompt_n for end in ends),)
    assert found["prompt_seconds_total"][0] * 1000 == pytest.approx(sum(end.prompt_ms for end in ends))
    spent = sum(end.predicted_ms for end in ends)
    assert found["tokens_predicted_seconds_total"][0] * 1000 == pytest.approx(spent, rel=0.2, abs=2)
    assert sum(found["inter_token_seconds"][:-1]) == 22
    assert not any(place.busy for place in engine.vitals.places.show())


def test_a_cancelled_request_has_counted_what_it_computed(tiny: Bench) -> None:
    tiny.new()
    id = tiny.start("abc", FREE)
    for _ in range(4):
        tiny.engine.step()
    tiny.engine.obey(Drop((1, id)))
    tiny.run()
    assert figures(tiny)["tokens_predicted_total"] == (4,)


def test_places_show_who_runs_and_who_was_last(tiny: Bench) -> None:
    tiny.new()
    places = tiny.engine.vitals.places
    assert places.show() == [Place(id, 256) for id in range(4)]
    tiny.start("abc", Sampling(max_tokens=10, top_k=7, ignore_eos=True))
    for _ in range(4):
        tiny.engine.step()
    (busy,) = [place for place in places.show() if place.busy]
    assert (busy.task, busy.processed, busy.cached) == (1, busy.prompt, 0)
    assert (busy.decoded, busy.remain, busy.n_ctx) == (4, 6, 256)
    assert busy.sampling is not None
    assert (busy.sampling.top_k, busy.sampling.top_p) == (7, 0.95)
    tiny.run()
    last = places.show()[busy.id]
    assert (last.busy, last.task, last.decoded, last.remain) == (False, 1, 10, 0)
    more = choices(tiny, "xyz", FREE, 4)
    tiny.engine.step()
    assert sorted(place.task for place in places.show() if place.busy) == [2, 3, 4, 5]
    for each in more:
        tiny.engine.obey(Drop((1, each)))
    tiny.run()
    assert not any(place.busy for place in places.show())
