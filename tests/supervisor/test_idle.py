"""Idle models go after their time, a configured one or one that a client has asked for."""

from __future__ import annotations

import pytest

from supervisor.config import Model
from supervisor.control import Activity, Busy, Drain, Drained, KeepAlive, ModelChanged, Reopen, State, Want
from supervisor.idle import FOR_EVER, Idle
from supervisor.timers import Timers
from tests.supervisor.test_fleet import World


@pytest.mark.parametrize(
    ("model", "longest", "said", "timeout"),
    [
        (Model(), 0.0, [], FOR_EVER),
        (Model(idle_timeout=60.0), 0.0, [], 60.0),
        (Model(idle_timeout=60.0), 0.0, [5.0, 7.0], 7.0),
        (Model(idle_timeout=60.0), 0.0, [0.0], 0.0),
        (Model(idle_timeout=60.0), 0.0, [-1.0], FOR_EVER),
        (Model(), 10.0, [20.0], 10.0),
        (Model(), 10.0, [-1.0], 10.0),
        (Model(), 10.0, [0.0], 0.0),
        (Model(idle_timeout=60.0, pin=True), 0.0, [5.0], FOR_EVER),
    ],
)
def test_the_latest_word_counts_within_the_limit(
    model: Model, longest: float, said: list[float], timeout: float
) -> None:
    idle = Idle(lambda _: model, longest)
    for seconds in said:
        idle.say("m", seconds)
    assert idle.timeout("m") == timeout
    assert idle.due("m", 1000.0) == (None if timeout == FOR_EVER else 1000.0 + timeout)
    idle.forget("m")
    assert idle.timeout("m") == (FOR_EVER if model.pin else model.idle_timeout or FOR_EVER)


def test_only_a_change_is_news() -> None:
    idle = Idle(lambda _: Model(idle_timeout=60.0), 0.0)
    assert [idle.say("m", seconds) for seconds in (60.0, 5.0, 5.0, -1.0, -9.0)] == [False, True, False, True, False]


def test_a_timer_moves_forward_but_not_back() -> None:
    timers, fired = Timers(), list[str]()
    timers.no_later("a", 5.0, lambda: fired.append("first"))
    timers.no_later("a", 9.0, lambda: fired.append("later"))
    assert timers.next() == 5.0
    timers.no_later("a", 3.0, lambda: fired.append("earlier"))
    timers.run(4.0)
    assert fired == ["earlier"]


def test_an_idle_model_is_drained_after_its_time_and_stopped() -> None:
    world = World(idle={"a": 60.0})
    world.load("a")
    world.elapse(59.0)
    world.say(Activity("a", 1, 1))
    world.elapse(500.0)
    assert world.state("a") is State.READY  # the time runs only while nothing is in flight
    world.say(Activity("a", 1, 0))
    world.elapse(59.9)
    assert world.state("a") is State.READY
    world.elapse(0.2)
    assert world.last(Drain).reason == "idle"
    assert world.last(Drain).if_idle
    world.say(Drained("a", 1))
    assert world.workers.stops == [("a", "polite")]
    world.ended("a")
    assert world.last(ModelChanged).status.stop_reason == "idle"
    assert world.state("a") is State.UNLOADED
    world.elapse(500.0)


def test_a_proxy_that_is_busy_after_all_keeps_it() -> None:
    world = World(idle={"a": 60.0}, proxies=2)
    world.load("a")
    world.say(Activity("a", 1, 0), proxy=1)
    world.elapse(61.0)
    world.say(Activity("a", 1, 1), proxy=1)
    world.say(Busy("a", 1), proxy=1)
    assert world.state("a") is State.READY
    assert world.last(Reopen)
    world.say(Activity("a", 1, 0), proxy=1)
    world.elapse(60.5)
    assert world.state("a") is State.DRAINING


def test_a_client_shortens_and_lengthens_the_time() -> None:
    world = World(idle={"a": 60.0})
    world.load("a")
    world.say(KeepAlive("a", 1, 5.0))
    assert world.last(ModelChanged).status.idle_timeout == 5.0
    world.say(KeepAlive("a", 1, 300.0))
    world.elapse(299.0)
    assert world.state("a") is State.READY
    world.elapse(1.5)
    assert world.state("a") is State.DRAINING


def test_zero_unloads_when_the_request_is_done_and_for_one_life_only() -> None:
    world = World()
    world.load("a")
    world.say(Activity("a", 1, 1))
    world.say(KeepAlive("a", 1, 0.0))
    assert world.state("a") is State.READY
    world.say(Activity("a", 1, 0))
    assert world.state("a") is State.DRAINING
    world.say(Drained("a", 1))
    world.ended("a")
    world.load("a")
    world.elapse(1000.0)
    assert world.state("a") is State.READY
    world.say(KeepAlive("a", 1, 0.0))  # from a request of the life before
    assert world.state("a") is State.READY


def test_for_ever_protects_from_time_but_not_from_eviction() -> None:
    world = World(idle={"a": 60.0})
    world.load("a")
    world.say(KeepAlive("a", 1, -1.0))
    world.elapse(5000.0)
    assert world.state("a") is State.READY
    world.say(Want("b"))
    assert world.last(Drain).reason == "evicted"


def test_a_wanted_model_that_goes_for_idleness_is_loaded_again() -> None:
    world = World(idle={"a": 60.0})
    world.load("a")
    world.elapse(61.0)
    world.say(Want("a"))
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.state("a") is State.LOADING
