"""Who is served when, over many arrivals: few swaps, no starvation."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.placement import Wanted, queue
from tests.supervisor.simulator import Request, Simulator


def served(order: str, every: float = 0.1, **more: float) -> Simulator:
    """A request for each letter, `every` seconds apart."""
    return Simulator([Request(name, at * every, takes=0.3) for at, name in enumerate(order)], **more).run()


def test_mixed_requests_load_each_model_once() -> None:
    assert served("AABACABC").loads == ["A", "B", "C"]


def test_requests_that_all_wait_load_each_model_once() -> None:
    assert served("AABACABC", every=0.0).loads == ["A", "B", "C"]


def steady(models: str, seconds: float, every: float, takes: float) -> list[Request]:
    return [Request(name, at * every, takes) for name in models for at in range(int(seconds / every))]


def test_steady_traffic_on_one_model_starves_no_other() -> None:
    requests = [*steady("A", 60, 0.2, 1.0), Request("B", 5.0)]
    done = Simulator(requests, max_wait=10).run()
    assert requests[-1].waited <= 10 + 1.0 + 0.1 + 0.5 + 1e-9  # A's turn, its last request, stop, load
    assert done.loads == ["A", "B", "A"]


def test_steady_traffic_on_two_models_goes_by_turns() -> None:
    done = Simulator(steady("AB", 120, 0.5, 1.0), max_wait=10).run()
    assert done.swaps <= 120 / 10
    assert done.longest <= 10 + 1.0 + 0.1 + 0.5 + 1e-9


def test_whoever_waited_is_served_although_others_have_waited_too_long_already() -> None:
    """Each of these loads comes when the next model's waiters are overdue: none may be taken away unused."""
    requests = [Request(name, 0.0, takes=20.0) for name in "ABCDE"]
    done = Simulator(requests, max_wait=1.0).run()
    assert done.loads == list("ABCDE")


def test_after_max_wait_a_model_admits_only_those_that_waited_for_it() -> None:
    requests = [Request("A", 0.0, 30.0), Request("B", 1.0, 5.0), Request("C", 2.0), *steady("B", 60, 0.5, 5.0)]
    Simulator(requests, max_wait=10).run()
    third = next(request for request in requests if request.model == "C")
    turn = requests[1].admitted
    assert turn is not None
    assert third.admitted is not None
    late = [r for r in requests if r.model == "B" and turn < r.arrives < third.admitted]
    assert late
    assert all(request.admitted is not None and request.admitted > third.admitted for request in late)


def test_the_more_important_goes_first_but_not_for_ever() -> None:
    wants = [
        Wanted("old", 0.0),
        Wanted("low", 95.0, priority=-1),
        Wanted("mid", 96.0),
        Wanted("high", 99.0, priority=5),
    ]
    assert [want.name for want in queue(wants, 10.0, 100.0)] == ["old", "high", "mid", "low"]
    requests = [*(Request("high", at * 0.9, priority=1) for at in range(100)), Request("low", 3.0)]
    Simulator(requests, max_wait=10).run()
    assert requests[-1].waited <= 10 + 1.6 + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_random_arrivals_all_end_and_wait_no_longer_than_the_turns_before_them(seed: int) -> None:
    draw = random.Random(seed)
    names = "ABCDEF"[: draw.randint(2, 6)]
    requests = [
        Request(draw.choice(names), draw.uniform(0, 100), draw.uniform(0.05, 3), draw.choice((0, 0, 0, 1)))
        for _ in range(draw.randint(20, 400))
    ]
    room, max_wait = draw.randint(1, 3), draw.choice((0.0, 2.0, 10.0))
    done = Simulator(requests, room, max_wait).run()
    assert done.most <= room
    turn = 3 + 0.1 + 0.5  # the last request of a model's turn, its stop, the load of the next one
    assert done.longest <= max_wait + turn * len(names) + 1e-6
    assert done.swaps <= len(requests)


arrivals = st.lists(
    st.builds(Request, st.sampled_from("ABCD"), st.floats(0, 30), st.floats(0.01, 4), st.integers(-1, 1)),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(arrivals, st.integers(1, 3), st.sampled_from([0.0, 1.0, 5.0]))
def test_nobody_starves_and_no_load_is_in_vain(requests: list[Request], room: int, max_wait: float) -> None:
    for request in requests:
        request.admitted = None
    done = Simulator(requests, room, max_wait).run()
    assert done.longest <= max_wait + (4 + 0.1 + 0.5) * 4 + 1e-6
    assert done.most <= room
    for name in set(done.loads):
        moments = {r.admitted for r in requests if r.model == name}
        assert done.loads.count(name) <= len(moments), "it was loaded, and nobody was served by it"
