"""The supervisor's core keeps its rules in random schedules, and the simulator sees it when one is broken."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Iterator

import pytest

from supervisor import config, fleet, machines, placement, placer, restart
from supervisor.control import State
from tests.faults import simulator

COUNT = 2000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_rule_holds_in_thousands_of_random_schedules() -> None:
    found = simulator.chunk(range(COUNT))
    assert not found, "\n\n".join(map(str, found[:3]))


def test_a_seed_says_all_that_happens() -> None:
    schedules = [simulator.schedules.make(seed) for seed in range(30)]
    traces = []
    for _ in range(2):
        agendas = [simulator.Agenda(schedule.seed, verbose=True) for schedule in schedules]
        for schedule, agenda in zip(schedules, agendas, strict=True):
            with simulator.patched(lambda agenda=agenda: agenda):
                simulator.schedules.run(schedule, agenda)
        traces.append([agenda.trace for agenda in agendas])
    assert traces[0] == traces[1]


def _at_once(
    history: restart.History, now: float, lived: float, policy: config.Restart, draw: random.Random
) -> tuple[restart.History, float | None]:
    return history, 0.0


def _all_idle(residents: object, wanted: set[str]) -> tuple[list[placement.Resident], ...]:
    return [m for m in residents if m.state is State.READY and m.name not in wanted], [], []  # type: ignore[attr-defined]


_MORE = placer.Placer._more


def _greedy(self: placer.Placer) -> list[placement.Wanted]:
    return [dataclasses.replace(want, evicts=True, extra=False) for want in _MORE(self)]


BREAKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "max_models": lambda patch: patch.setattr(placement, "_HOLDS", {State.LOADING, State.READY, State.DRAINING}),
    "back-off": lambda patch: patch.setattr(restart, "after_death", _at_once),
    "pinned models stay": lambda patch: patch.setattr(placement, "_victims", _all_idle),
    "every want is answered": lambda patch: patch.setattr(machines.Machines, "_retry", lambda self, name: None),
    "no busy model goes for another": lambda patch: patch.setattr(
        machines.Machines, "drain_idle", lambda self, name, reason, **_: (self.drain(name, reason), self.drained(name))
    ),
    "no model goes for a further replica": lambda patch: patch.setattr(placer.Placer, "_more", _greedy),
    "every state has a way out": lambda patch: patch.setattr(fleet.Fleet, "worker_judged", lambda *_: None),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_core_is_found_and_its_schedule_made_short(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[rule](monkeypatch)
    all_of_them = ((seed, simulator.broken(simulator.schedules.make(seed))) for seed in range(1500))
    seed = next(seed for seed, found in all_of_them if found is not None and found[0].rule == rule)
    failure = simulator.check(seed)
    assert failure is not None
    assert failure.violation.startswith(rule)
    assert len(failure.trace) < 60
