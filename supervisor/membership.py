"""Which models there are: they come, change and go with the catalog; one that runs drains first."""

from __future__ import annotations

from collections.abc import Callable

from supervisor import lifecycle, replicas, roster
from supervisor.control import Entry, State
from supervisor.lifecycle import Model
from supervisor.machines import Machines
from supervisor.proxies import Proxies
from supervisor.stock import AT_REST, Stock
from supervisor.timers import Timers


class Membership:
    """`forget` takes back what was wanted of a model, and tells those who wait."""

    def __init__(
        self, stock: Stock, machines: Machines, timers: Timers, proxies: Proxies, forget: Callable[[str], None]
    ) -> None:
        self._stock, self._machines, self._timers, self._proxies = stock, machines, timers, proxies
        self._forget = forget
        self._retired: dict[str, int] = {}  # the generations of those that went: a link's is never used twice

    def adopt(self, entries: dict[str, Entry]) -> None:
        """Another catalog."""
        stock, machines, entries = self._stock, self._machines, replicas.expanded(entries)
        change = roster.change(stock.entries, entries)
        stock.leaving |= {name: stock.entries[name] for name in change.gone}
        stock.entries = entries
        stock.learn()
        for name in change.added:
            self._add(name)
        self._tell(change)
        for name in (*change.added, *change.changed):
            if name in stock.wants and replicas.first(name):
                stock.store.wanted(entries[name])
        for name in change.changed:
            machines.publish(name)  # the time in which it goes may be another
        for name in change.reload:
            self._begin_anew(name)
        for name in change.repaired:
            if stock.models[name].state is State.FAILED:
                machines.apply(name, lifecycle.Cleared())
        for name in change.gone:
            self._leave(name)
        self.remove_the_gone()  # now: who asked for the scan is answered next

    def retired(self, name: str) -> bool:
        """Whether it was there once."""
        return name in self._retired

    def remove_the_gone(self) -> None:
        """Those that left the catalog and have ended are forgotten; a model's first replica after the others."""
        if not self._stock.leaving:
            return
        models = [self._stock.models[name] for name in self._stock.leaving]
        gone = [each for each in models if each.state in AT_REST and not each.stuck]  # else its process will end
        for model in gone:
            if not replicas.first(model.name):
                self._remove(model)
        several = {replicas.base(name) for name in self._stock.models if not replicas.first(name)}
        for model in gone:
            if replicas.first(model.name) and model.name not in several:
                self._remove(model)

    def _tell(self, change: roster.Change) -> None:
        stock = self._stock
        if told := (*change.added, *change.changed):
            statuses = tuple(self._machines.status(stock.models[name]) for name in change.added)
            entries = tuple(stock.entries[name] for name in told if replicas.first(name))
            reload = bool(change.added or change.shown)
            self._proxies.broadcast(self._machines.journal.listed(entries, statuses, reload))

    def _add(self, name: str) -> None:
        stock = self._stock
        if stock.leaving.pop(name, None) is None:
            stock.models[name] = Model(name, since=stock.clock(), generation=self._retired.pop(name, 0))
        if stock.entries[name].model.preload:
            stock.want(name).background = True

    def _begin_anew(self, name: str) -> None:
        """What it is loaded with has changed: the next load takes the new settings."""
        match self._stock.models[name].state:
            case State.READY:
                self._machines.drain(name, "reload")
            case State.LOADING:
                self._machines.apply(name, lifecycle.Cancelled("reload"))
            case State.DRAINING:
                self._stock.stale.add(name)  # the drain may be withdrawn
            case State.FAILED | State.BACKOFF:
                self._machines.apply(name, lifecycle.Cleared())
            case _:
                pass

    def _leave(self, name: str) -> None:
        """In the catalog no more: it drains, and is forgotten once it has ended."""
        if self._stock.models[name].state not in (State.READY, State.DRAINING):  # else what runs may end
            self._forget(name)
        self._stock.wants.drop(name)
        match self._stock.models[name].state:
            case State.READY:
                self._machines.drain(name, "removed")
            case State.LOADING:
                self._machines.apply(name, lifecycle.Cancelled("removed"))
            case State.DRAINING:
                self._stock.stale.add(name)  # the drain may be withdrawn
            case State.DOWNLOADING:
                self._stock.store.cancel(name)
            case _:
                pass

    def _remove(self, model: Model) -> None:
        name, stock = model.name, self._stock
        del stock.leaving[name], stock.models[name]
        self._retired[name] = model.generation
        stock.wants.drop(name)
        stock.overrides.forget(name)
        self._machines.forget(name)
        for timer in ("retry", "want", "resident", "idle", "attach"):
            self._timers.cancel((timer, name))
        self._proxies.broadcast(self._machines.journal.unlisted(name))
        if replicas.first(name):
            stock.store.gone(name)
