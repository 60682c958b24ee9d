"""The roll of all processes: who they are, in which order, and what is said of one that is not well."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from supervisor import liveness, roll
from supervisor.control import ModelStatus, Phase, Pong, State
from supervisor.liveness import Verdict


def ward(role: str, **more: Any) -> Any:
    """What the roll needs of a ward; it was born at 10 and is looked at at 20."""
    vitals = liveness.born(10.0)
    if pong := more.pop("pong", None):
        vitals = vitals.heard(pong, 18.0)
    child = SimpleNamespace(role=role, pid=os.getpid())
    known = {"verdict": Verdict.HEALTHY, "unkillable": False, "stopping": False} | more
    return SimpleNamespace(role=role, child=child, vitals=vitals, born=10.0, **known)


def called(*wards: Any) -> dict[str, Any]:
    statuses = [ModelStatus("m", State.READY, 0.0, restarts=2), ModelStatus("m#2", State.LOADING, 0.0)]
    return {row.role: row for row in roll.call(wards, statuses, {"proxy-1": 3}, 20.0, 1000.0)}


def test_the_order_is_that_of_the_tree() -> None:
    found = called(*map(ward, ("scan", "w:m", "standby", "proxy-1", "w:m#2", "proxy-0")))
    assert list(found) == ["proxy-0", "proxy-1", "w:m", "w:m#2", "standby", "scan"]


def test_a_worker_is_told_with_its_model_and_its_last_pong() -> None:
    row = called(ward("w:m#2"), ward("w:m", pong=Pong(1, Phase.DECODE, steps=7)))["w:m"]
    assert (row.model, row.state, row.phase, row.step, row.restarts) == ("m", "ready", "decode", 7, 2)
    assert (row.uptime_s, row.pong_age_ms, row.since) == (10.0, 2000, 998.0)
    assert row.rss is not None
    assert row.rss > 1e6
    other = called(ward("w:m#2"))["w:m#2"]
    assert (other.model, other.state, other.pong_age_ms) == ("m", "loading", None)


def test_a_process_without_a_model_has_a_word_of_its_own_and_what_is_wrong_goes_before() -> None:
    pong = Pong(1, Phase.IDLE)
    states = {
        "starting": ward("proxy-1"),
        "running": ward("proxy-1", pong=pong),
        "stopping": ward("proxy-1", pong=pong, stopping=True),
        "suspended": ward("w:m", pong=pong, verdict=Verdict.SUSPENDED),
        "unkillable": ward("w:m", pong=pong, unkillable=True),
    }
    for state, one in states.items():
        (row,) = called(one).values()
        assert row.state == state
    assert called(ward("proxy-1"))["proxy-1"].restarts == 3


def test_one_that_has_just_ended_has_no_memory() -> None:
    assert roll.rss(2**22 + 1) is None
    root = roll.root(10.0, 20.0, 1000.0)
    assert (root.role, root.pid, root.uptime_s) == ("root", os.getpid(), 10.0)
