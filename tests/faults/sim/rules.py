"""The rules that hold whenever a process is started or stopped. RELIABILITY.md, 6 and 14."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Protocol

from supervisor import config, replicas
from supervisor.fleet import Fleet
from supervisor.placement import crowded
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
        self._awaited = False
        self._given: set[str] = set()  # they go for a load without memory, whatever becomes of that

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

    def turn(self) -> None:
        """A turn of the root's loop begins. Who waits now may leave in it, together with what others wait for."""
        self._awaited = self._somebody_waits()
        self._given.update(self._world.fleet._placer._room.values())

    def _somebody_waits(self) -> bool:
        stock = self._world.fleet.stock
        wanted = any(want.evicts for want in stock.wants.in_order())
        return wanted or any(each.makes_room for each in stock.models.values())

    def stops(self, model: str, how: str) -> None:
        life = self._world.fleet.model(model)
        if how != "polite" or life.stop_reason not in ("evicted", "idle"):
            return
        if replicas.first(model) and self._world.models[model].pin:
            raise Violation("pinned models stay", f"{model}: {life.stop_reason}")
        if self._world.fleet.stock.closing:
            return  # what still runs at the end of the drain ends with it
        self._for_another(model, life.stop_reason)
        busy = [p.in_flight(model, life.generation) for p in self._world.proxies.running.values() if p.alive]
        if any(busy):
            raise Violation("no busy model goes for another", f"{model} is stopped with {sum(busy)} in flight")

    def _for_another(self, model: str, reason: str) -> None:
        """A further replica takes free room only: whoever goes, goes for a request that waits, or an order.

        Or because there is no room for it any more: the limits are narrower, or a process cannot be killed.
        """
        fleet = self._world.fleet
        others = fleet._placer._residents({model})
        if model in self._given or crowded(others, model, fleet.stock.config.placement.max_models, fleet.stock.budgets):
            return
        if reason == "evicted" and not (self._awaited or self._somebody_waits()):
            raise Violation("no model goes for a further replica", f"{model} goes, and nobody waits")
