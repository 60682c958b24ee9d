"""Has placement decide, and carries out what it decides: who is loaded, who goes for whom, and who goes by itself."""

from __future__ import annotations

import logging

from supervisor import lifecycle, placement, replicas
from supervisor.control import State
from supervisor.lifecycle import Model
from supervisor.log import facts
from supervisor.machines import Machines
from supervisor.stock import AT_REST, Stock
from supervisor.timers import Timers
from supervisor.workers import Workers

log = logging.getLogger("root")


class Placer:
    """See `settle`."""

    def __init__(self, stock: Stock, machines: Machines, timers: Timers, workers: Workers) -> None:
        self._stock, self._machines, self._timers, self._workers = stock, machines, timers, workers
        self._room: dict[str, str] = {}  # a load that ran out of memory → who goes for it, "" for nobody
        machines.make_room = self._make_room

    def settle(self) -> None:
        """Lets placement decide until nothing changes."""
        while self._stock.dirty and not self._stock.closing:
            self._stock.dirty = False
            self._place()
            self._retire()
            self._retry_loads()

    def try_refused_again(self) -> None:
        """There may be other limits, or other needs, now."""
        for name, model in list(self._stock.models.items()):
            refused = model.state is State.FAILED and model.cause == "insufficient_memory"
            if refused and not placement.too_large(self._resident(model), self._stock.budgets):
                self._machines.apply(name, lifecycle.Cleared())
        self._stock.dirty = True

    def _place(self) -> None:
        stock, machines, now = self._stock, self._machines, self._stock.clock()
        limits = stock.config.placement.max_models, stock.config.admission.max_wait
        wants = [*stock.wants.in_order(), *self._more()]
        plan = placement.plan(self._residents({want.name for want in wants}), wants, *limits, now, stock.budgets)
        for name, why in plan.refuse.items():
            stock.wants.drop(name)
            machines.apply(name, lifecycle.Impossible(why))
        self._explain(plan.blocked)
        for name in plan.reopen:
            machines.withdraw(name)
        for name in plan.load:
            machines.apply(name, lifecycle.Place())
        for name in plan.evict:
            machines.drain_idle(name, "evicted")
        for name in plan.close:
            machines.evict(name)
        for name in stock.wants.background():
            if stock.models[name].placeable(now) and name not in plan.load:
                self._give_up(name)

    def _more(self) -> list[placement.Wanted]:
        """One more replica of each model that has too few; of none that an operator has loaded in a way of its own."""
        stock, now, found = self._stock, self._stock.clock(), list[placement.Wanted]()
        for model in sorted({replicas.base(name) for name in stock.crowded}):
            seen = [
                replicas.Seen(each.name, each.state, each.name in stock.crowded, self._placeable(each))
                for each in stock.replicas(model)
            ]
            name = replicas.one_more(seen)
            if name and name not in stock.wants and not stock.overrides.of(model):
                found.append(placement.Wanted(name, now, evicts=False, extra=True))
        return found

    def _retire(self) -> None:
        """Models that nobody has used for their time go; the others are looked at when that may be so."""
        stock, now = self._stock, self._stock.clock()
        for name, model in stock.models.items():
            if model.state is not State.READY or stock.traffic.in_flight(name):
                continue
            due = stock.idle.due(name, stock.traffic.last_used(name))
            if due is None:
                continue
            if due <= now:
                self._machines.drain_idle(name, "idle")
            else:
                self._timers.no_later(("idle", name), due, stock.mark)

    def _make_room(self, name: str) -> None:
        """Its load ran out of memory: one idle model goes for it, before it is tried once more.

        None does for a further replica of a model that serves.
        """
        wanted, others = {want.name for want in self._stock.wants.in_order()}, self._stock.replicas(replicas.base(name))
        needed = not any(other.state is State.READY for other in others)
        self._room[name] = victim = placement.spare(self._residents(wanted), name, wanted) if needed else ""
        log.warning("out of memory at load, trying once more %s", facts(model=name, evicts=victim or "nobody"))
        if victim:
            self._machines.drain_idle(victim, "evicted", final=True)

    def _retry_loads(self) -> None:
        """Those loads for which room was made go on; one whose place has gone meanwhile is placed anew."""
        limit = self._stock.config.placement.max_models
        for name, victim in list(self._room.items()):
            if not (model := self._stock.models.get(name)) or not model.makes_room:
                del self._room[name]
            elif not self._goes(victim):
                del self._room[name]
                crowded = placement.crowded(self._residents(set()), name, limit, self._stock.budgets)
                self._machines.apply(name, lifecycle.Cancelled("evicted") if crowded else lifecycle.RoomMade())

    def _goes(self, name: str) -> bool:
        """Whether this model is about to free its memory; without a name: whether any is."""
        known = self._stock.models
        models = [known[name]] if name in known else [] if name else known.values()
        leaving = (State.DRAINING, State.STOPPING) if name else (State.STOPPING,)
        return any(model.state in leaving for model in models)

    def _give_up(self, name: str) -> None:
        """A preload or a restart evicts nobody: without a free place it is left until somebody asks."""
        log.info("no free place %s", facts(model=name, max_models=self._stock.config.placement.max_models))
        self._stock.wants.drop(name)
        self._machines.apply(name, lifecycle.Elapsed())

    def _explain(self, blocked: dict[str, list[str]]) -> None:
        """Says of each model that waits for others which these are, when that changes."""
        stock = self._stock
        before, stock.blocked = stock.blocked, {name: _models(others) for name, others in blocked.items()}
        for name in {*before, *stock.blocked}:
            others = stock.blocked.get(name, ())
            if others != before.get(name, ()) and name in stock.models:
                if others:
                    log.info("waits for room %s", facts(model=name, in_memory=",".join(others)))
                    self._workers.warm(stock.entry(name).model)
                self._machines.publish(name)

    def _residents(self, wanted: set[str]) -> list[placement.Resident]:
        """Those that matter: who takes room, and who wants it. Of many models most do neither."""
        models = self._stock.models.values()
        matter = [each for each in models if each.state not in AT_REST or each.stuck or each.name in wanted]
        return [self._resident(each) for each in matter]

    def _resident(self, model: Model) -> placement.Resident:
        stock, name, now = self._stock, model.name, self._stock.clock()
        entry, own = stock.as_loaded(name), replicas.base(name)
        return placement.Resident(
            name,
            model.state,
            in_flight=stock.traffic.in_flight(name),
            last_used=stock.traffic.last_used(name),
            pinned=entry.model.pin,
            placeable=self._placeable(model),
            evicting=self._machines.evicting(name),
            stuck=model.stuck,
            needs=entry.needs,
            priority=entry.model.priority,
            group=entry.model.group,
            promised=stock.traffic.promised(name),
            settling=model.state is State.READY and now < model.since + entry.model.min_resident,
            model=own,
            extra=model.state is State.READY and self._serves_before(model),
        )

    def _placeable(self, model: Model) -> bool:
        stock, name = self._stock, model.name
        return model.placeable(stock.clock()) and not stock.entry(name).pending and name not in stock.leaving

    def _serves_before(self, model: Model) -> bool:
        """Whether a replica before this one serves, too: then it is one that can be spared."""
        stock, own = self._stock, replicas.base(model.name)
        if stock.entry(model.name).model.replicas == 1 and own == model.name:
            return False
        serving = [each.name for each in stock.replicas(own) if each.state is State.READY]
        serving = [name for name in serving if name not in stock.suspended]
        return bool(serving) and serving[0] != model.name


def _models(names: list[str]) -> tuple[str, ...]:
    """Clients know no replicas."""
    return tuple(sorted({replicas.base(name) for name in names}))
