"""The rules that hold whenever a process is started or stopped. RELIABILITY.md, 6 and 14."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Protocol

from supervisor import config, replicas
from supervisor.fleet import Fleet
from tests.faults.sim.agenda import Agenda, Violation
from tests.faults.sim.post import Proxies
from tests.faults.sim.workers import Process

NEEDS = {"a": 40, "b": 60, "c": 30, "p": 20}  # of the memory of a world


class World(Protocol):
    """What the rules look at."""

    agenda: Agenda
    fleet: Fleet
    proxies: Proxies
    settings: config.Config
    models: dict[str, config.Model]


class Rules:
    """See workers.Rules."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._deaths: dict[str, deque[float]] = defaultdict(deque)
        self._forgiven: dict[str, float] = {}

    def cleared(self, model: str) -> None:
        """Its deaths are forgotten: somebody asked for it, or it is another one."""
        for name in self._deaths:
            if replicas.base(name) == model:
                self._deaths[name].clear()

    def forgiven(self, model: str, soon: float = 0.0) -> None:
        """It need not wait for the back-off of a death until then, but its deaths count. `soon`: seconds from now."""
        self._forgiven[replicas.base(model)] = self._world.agenda.now + soon

    def died(self, model: str) -> None:
        self._deaths[model].append(self._world.agenda.now)

    def starts(self, model: config.Model, alive: dict[str, Process]) -> None:
        placement, name, now = self._world.settings.placement, model.name, self._world.agenda.now
        leaving = [process for process in alive.values() if process.stopping]
        yielded = bool(leaving) and isinstance(placement.memory, dict)  # one that stops counts by its memory alone
        if placement.max_models and len(alive) - yielded >= placement.max_models:
            raise Violation("max_models", f"{name} starts beside {', '.join(alive)}")
        if isinstance(placement.memory, dict):
            needed = sum(NEEDS[replicas.base(other)] for other in {*alive, name})
            if needed > placement.memory["ram"]:
                raise Violation("memory", f"{name} starts beside {', '.join(alive)}: {needed} of {placement.memory}")
        policy = self._world.settings.restart
        deaths = [at for at in self._deaths[name] if at > now - policy.window]
        if len(deaths) > policy.max_deaths:
            raise Violation("restart intensity", f"{name} starts after {len(deaths)} deaths")
        waits = deaths and self._forgiven.get(replicas.base(name), 0.0) < deaths[-1]
        if waits and now < deaths[-1] + policy.backoff * (1 - policy.jitter) - 1e-9:
            raise Violation("back-off", f"{name} starts {now - deaths[-1]:.3f} s after a death")

    def stops(self, model: str, how: str) -> None:
        life = self._world.fleet.model(model)
        if how != "polite" or life.stop_reason not in ("evicted", "idle"):
            return
        if replicas.first(model) and self._world.models[model].pin:
            raise Violation("pinned models stay", f"{model}: {life.stop_reason}")
        self._for_another(model, life.stop_reason)
        busy = [p.in_flight(model, life.generation) for p in self._world.proxies.running.values() if p.alive]
        if any(busy):
            raise Violation("no busy model goes for another", f"{model} is stopped with {sum(busy)} in flight")

    def _for_another(self, model: str, reason: str) -> None:
        """A further replica takes free room only: whoever goes, goes for a request that waits, or an order."""
        fleet = self._world.fleet
        if fleet.stock.dirty:
            return  # placement has not looked since whoever waited left, as with the proxy that has just died
        wants = [want for want in fleet.stock.wants.in_order() if want.evicts]
        retried = [each for each in fleet.stock.models.values() if each.makes_room]
        if reason == "evicted" and not wants and not retried:
            raise Violation("no model goes for a further replica", f"{model} goes, and nobody waits")
