from __future__ import annotations

from typing import Any

import pytest

from proxy.eta import ready_in
from proxy.hall import Hall, share
from supervisor.config import Admission, Config, Server
from supervisor.control import ModelStatus, State

NOW = 1000.0


def status(state: State, name: str = "m", **more: Any) -> ModelStatus:
    return ModelStatus(name=name, state=state, **{"since": NOW, "load_ms": 2000.0} | more)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (status(State.READY), 0.0),
        (status(State.READY, suspended=True), None),
        (status(State.LOADING, since=NOW - 0.5), 1.5),
        (status(State.LOADING, since=NOW - 9), 0.0),
        (status(State.LOADING, since=NOW - 3, progress=0.75, load_ms=0.0), 1.0),
        (status(State.LOADING, load_ms=0.0), None),
        (status(State.UNLOADED), 2.0),
        (status(State.STOPPING), 2.0),
        (status(State.UNLOADED, load_ms=0.0), None),
        (status(State.BACKOFF, retry_at=NOW + 3), 5.0),
        (status(State.FAILED), None),
        (status(State.UNLOADED, blocked_by=("a",)), 2.0 + 6.0),
        (status(State.UNLOADED, blocked_by=("a", "b")), 2.0 + 6.0 + 1.5),
    ],
)
def test_the_time_to_readiness_follows_from_what_is_known(told: ModelStatus, seconds: float | None) -> None:
    others = {"a": status(State.READY, "a"), "b": status(State.LOADING, "b", since=NOW - 0.5)}
    assert ready_in(told, others, waited=4.0, max_wait=10.0, now=NOW) == seconds


def test_a_model_that_was_to_be_closed_long_ago_is_not_waited_for_any_longer() -> None:
    told = status(State.UNLOADED, blocked_by=("a",))
    assert ready_in(told, {"a": status(State.READY, "a")}, waited=99.0, max_wait=10.0, now=NOW) == 2.0


@pytest.mark.parametrize(("bound", "proxies"), [(256, 1), (1024, 3), (7, 7), (100, 64)])
def test_the_shares_of_all_proxies_are_the_bound_at_most(bound: int, proxies: int) -> None:
    assert bound - proxies < share(bound, proxies) * proxies <= bound


def test_a_reload_changes_the_bounds() -> None:
    hall = Hall(Config(file="x", models={}, server=Server(proxies=2)))
    assert (hall.most_each, hall.most) == (128, 512)
    limits = Admission(max_queue=10, max_queue_total=20)
    hall.reconfigure(Config(file="x", models={}, server=Server(proxies=2), admission=limits))
    assert (hall.most_each, hall.most) == (5, 10)
