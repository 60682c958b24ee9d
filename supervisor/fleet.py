"""The models: what proxies and workers say of them, what operators want, and what the root's loop asks.

    Stock         what is known of them
    ├── Machines      their state machines, the one writer of their states
    ├── Membership    which ones there are
    ├── Operator      what is ordered
    └── Placer        who is loaded, and who goes

Events come from the proxies (wants, activity, drains), the workers (ready, dead, hung) and the clock; after each turn
of the root's loop `settle` lets placement decide who loads and who goes. A model's name means its first replica here,
the only one of most models: see supervisor.replicas.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import assert_never

from msgspec.structs import replace

from supervisor import census, config, crash, journal, lifecycle, oom, replicas
from supervisor.commands import Operator
from supervisor.control import (
    Activity,
    Answer,
    Busy,
    Drained,
    Entry,
    Facts,
    Footprint,
    KeepAlive,
    LinkBroken,
    LoadFailed,
    Lost,
    ModelCommand,
    ModelStatus,
    Pong,
    State,
    Unwant,
    Want,
)
from supervisor.fetching import Fetcher
from supervisor.figures import Series
from supervisor.lifecycle import Model
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.machines import Machines
from supervisor.membership import Membership
from supervisor.nursery import Ended, Ward
from supervisor.placer import Placer
from supervisor.proxies import Proxies, ProxyMessage
from supervisor.status import summary
from supervisor.stock import RUNNING, Stock
from supervisor.timers import Timers
from supervisor.wants import Want as Waiters
from supervisor.workers import Workers

log = logging.getLogger("root")
_COMPUTING = (State.LOADING, State.READY, State.DRAINING)  # one that loads does so at the end


class Fleet:
    """All models of the catalog. `proxies` and `workers` act for it; it is what they report to.

    `measured` is told what a load took, `reported` of each death.
    """

    def __init__(
        self,
        settings: config.Config,
        timers: Timers,
        proxies: Proxies,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proxies, self._workers = proxies, workers
        self.stock = Stock(settings, timers, clock)
        self._machines = Machines(self.stock, timers, proxies, workers)
        self._members = Membership(self.stock, self._machines, timers, proxies, self.forget)
        self._operator = Operator(self.stock, self._machines, self.forget)
        self._placer = Placer(self.stock, self._machines, timers, workers)
        self.journal, self.ledger = self._machines.journal, self._machines.ledger
        self._oom_kills = oom.kills()
        self.measured: Callable[[Entry, Footprint], None] = lambda entry, footprint: None

    # -- the tree's side ---------------------------------------------------------------------------------------

    def preload(self) -> None:
        """Orders the models that are to be loaded from the start."""
        for name, entry in self.stock.entries.items():
            if entry.model.preload:
                self.stock.want(name).background = True

    def settle(self) -> None:
        """Lets placement decide; then sees to the standby and the CPU turns."""
        self._placer.settle()
        self._members.remove_the_gone()
        models = self.stock.models.values()
        if not any(model.state is State.LOADING for model in models):
            self._workers.keep_standby()
        self._workers.neighbours(sum(map(self._computes, models)))

    def _computes(self, model: Model) -> bool:
        on_cpu = model.facts is None or model.facts.on_cpu
        return on_cpu and model.state in _COMPUTING and model.name not in self.stock.suspended

    def shut_down(self, deadline: float) -> None:
        """No more loads; every model drains, then stops. The proxies have been told already."""
        self.stock.closing = True
        self.stock.wants.clear()
        for name, model in self.stock.models.items():
            if model.state is State.LOADING:
                self.apply(name, lifecycle.Cancelled("shutdown"))
            elif model.state in (State.READY, State.DRAINING):
                self._machines.drain_for_shutdown(name, deadline)

    def reconfigure(self, settings: config.Config) -> None:
        """Takes over limits; `adopt` is told of the models."""
        self.stock.config = settings
        self._machines.policy = lifecycle.Policy(settings.restart)
        self.stock.idle.limit(settings.admission.keep_alive_max)
        self._placer.try_refused_again()

    def adopt(self, entries: dict[str, Entry], gpus: tuple[int, ...] = ()) -> None:
        """Another catalog: models come, change and go. One that runs drains first. `gpus`: bytes of each."""
        if not self.stock.closing:
            self.stock.gpus = gpus
            self._members.adopt(entries)
            self._placer.try_refused_again()

    def entries(self) -> tuple[Entry, ...]:
        found = {**self.stock.leaving, **self.stock.entries}
        return tuple(entry for name, entry in found.items() if replicas.first(name))

    @property
    def catalog(self) -> Mapping[str, Entry]:
        """The models there are, by name."""
        return {name: entry for name, entry in self.stock.entries.items() if replicas.first(name)}

    @property
    def running(self) -> set[str]:
        """Models that have a process with their present settings."""
        return {replicas.base(name) for name, model in self.stock.models.items() if model.state in RUNNING}

    @property
    def reported(self) -> Callable[[crash.CrashReport], None]:
        return self._machines.reported

    @reported.setter
    def reported(self, reported: Callable[[crash.CrashReport], None]) -> None:
        self._machines.reported = reported

    @property
    def store(self) -> Fetcher:
        """Fetches models and deletes them."""
        return self.stock.store

    @store.setter
    def store(self, store: Fetcher) -> None:
        self.stock.store = store

    def summary(self) -> str:
        """One line for the service manager."""
        return summary(replicas.fronts(self.stock.models.values(), self.stock.suspended))

    # -- one model ---------------------------------------------------------------------------------------------

    def model(self, name: str) -> Model:
        return self.stock.models[name]

    def apply(self, name: str, event: lifecycle.Event) -> None:
        """Feeds a model's machine."""
        self._machines.apply(name, event)

    def forget(self, name: str) -> None:
        """Nobody wants it any more; whoever waits is told that the load was called off."""
        self.stock.overrides.forget(name)
        self.stock.wants.drop(name)
        self.stock.dirty = True  # who goes for it may stay
        text = "the load was called off by a request to unload the model"
        self._proxies.broadcast(Lost(name, self.model(name).generation, "unloaded", text))

    # -- what the store says -----------------------------------------------------------------------------------

    def entry(self, name: str) -> Entry | None:
        """A model of the catalog."""
        return self.stock.entries.get(name)

    def download_begun(self, name: str) -> bool:
        """Whether it is in a state in which its files can be fetched; then it is in DOWNLOADING now."""
        self.apply(name, lifecycle.DownloadBegun())
        return self.model(name).state is State.DOWNLOADING

    def download_moved(self, name: str) -> None:
        if name in self.stock.models:
            self._machines.publish(name)

    def download_ended(self, name: str, message: str = "", *, cancelled: bool = False) -> None:
        """`message`: why it failed. Whoever has a list is told to ask for it again."""
        if name in self.stock.models:
            self.apply(name, lifecycle.DownloadEnded(message, cancelled))
            if self.model(name).state is State.FAILED:
                self.stock.wants.drop(name)
            self._proxies.broadcast(self.journal.listed(()))

    # -- what proxies say (Models) -----------------------------------------------------------------------------

    def statuses(self) -> tuple[ModelStatus, ...]:
        return tuple(map(self._machines.status, self.stock.models.values()))

    def figures(self) -> list[Series]:
        """What all processes have counted, and how the models are now."""
        stock = self.stock
        present = census.present(stock.models.values(), self._workers.of, stock.clock())
        memory = census.memory(stock.models.values(), lambda name: stock.as_loaded(name).needs, stock.budgets)
        return [*self.ledger.total(), *present, *memory]

    def attach_all(self, proxy: Ward) -> None:
        for model in self.stock.models.values():
            if model.state is State.READY:
                self._machines.attach(model, proxy)

    def from_proxy(self, proxy: Ward, message: ProxyMessage) -> None:
        if isinstance(message, ModelCommand):
            log.info("command %s", facts(verb=message.verb, model=message.model, role=proxy.role))
            if message.verb in ("pull", "remove"):
                self.store.obey(message, lambda answer: self._proxies.send(proxy, answer))
                return
        if message.model not in self.stock.models:
            self._unknown(proxy, message)
            return
        match message:
            case Want(model, priority):
                self._want(model, proxy, priority)
            case Unwant(model):
                self._unwant(model, proxy)
            case ModelCommand():
                self._proxies.send(proxy, self._operator.obey(message))
            case Activity() | KeepAlive() | Drained() | Busy() | LinkBroken():
                if message.generation == self.model(message.model).generation:  # else it is about one that has gone
                    self._of_worker(proxy, message)
            case _:
                assert_never(message)

    def _of_worker(self, proxy: Ward, message: Activity | KeepAlive | Drained | Busy | LinkBroken) -> None:
        """A proxy's word on the worker that the model has now."""
        name, traffic, now = message.model, self.stock.traffic, self.stock.clock()
        match message:
            case Activity(in_flight=in_flight):
                traffic.report(name, proxy, in_flight, now)
                self.stock.dirty = True
            case KeepAlive(seconds=seconds):
                if self.stock.idle.say(name, seconds):
                    self.stock.dirty = True
                    self._machines.publish(name)
            case Drained():
                self._machines.drain_answered(name, proxy)
            case Busy():
                traffic.used(name, now)  # its Activity is on the way
                if not self.stock.closing:  # else it goes in any case, once the proxy has finished
                    self._machines.withdraw(name)
            case LinkBroken(reason=reason, blameless=blameless):
                self._link_broken(name, proxy, reason, blameless)
            case _:
                assert_never(message)

    def _unknown(self, proxy: Ward, message: ProxyMessage) -> None:
        if isinstance(message, ModelCommand):
            text = f'model "{message.model}" is there no more'
            self._proxies.send(proxy, Answer(message.ticket, "model_not_found", text))
        elif not self._members.retired(message.model):  # else it was on its way when the model went
            log.error("a proxy names no model of ours %s", facts(role=proxy.role, model=message.model))

    def _want(self, name: str, proxy: Ward, priority: int) -> None:
        known = self.stock.replicas(name)
        ready = [each for each in known if each.state is State.READY]
        loading = [each for each in known if each.state is State.LOADING]
        if ready and not self.stock.closing:
            for each in ready:
                self._machines.attach(each, proxy)
        elif self.stock.closing or (known[0].state is State.FAILED and not loading):
            self._machines.publish(name)
        else:
            self.stock.want(loading[0].name if loading else name).proxies[proxy] = priority

    def _unwant(self, name: str, proxy: Ward) -> None:
        for each in self.stock.replicas(name):
            self._leave(each.name, proxy)

    def _leave(self, name: str, proxy: Ward) -> None:
        if not self.stock.wants.leave(name, proxy):
            return
        self.stock.dirty = True
        model = self.model(name)
        if model.state is State.LOADING:
            self.apply(name, lifecycle.Cancelled("unwanted"))
        elif model.placeable(self.stock.clock()):  # its back-off ended while it waited for room
            self.apply(name, lifecycle.Elapsed())

    def _link_broken(self, name: str, proxy: Ward, reason: str, blameless: bool) -> None:
        model = self.model(name)
        if model.state is not State.READY:
            return
        log.warning("link broken %s", facts(model=name, role=proxy.role, reason=reason))
        if blameless:
            self.stock.traffic.part(name, proxy)
            self._machines.attach_later(name)
        elif self.stock.traffic.broke(name, proxy, self.stock.clock()):
            self.apply(name, lifecycle.Hung(f"its links keep breaking: {reason}"))
        else:
            self._machines.attach(model, proxy)

    def proxy_gone(self, proxy: Ward) -> None:
        """It died, or has finished: it wants nothing, has nothing in flight, and counts as drained."""
        for name in self.stock.wants.of_proxy(proxy):
            self._leave(name, proxy)
        self.stock.traffic.unlink(proxy, self.stock.clock())
        self._machines.proxy_gone(proxy)
        self.stock.dirty = True

    def proxy_died(self, proxy: Ward, end: Ended) -> None:
        """The other proxies are told."""
        self._machines.tell_death(journal.of_proxy(proxy.role, end, time.time()), end)

    # -- what workers do (Lives) -------------------------------------------------------------------------------

    def worker_ready(self, model: str, facts: Facts) -> None:
        if self.model(model).state is not State.LOADING:
            return  # its word crossed the order to stop: who waits, waits for the next one
        self.stock.traffic.used(model, self.stock.clock())
        for each in self.stock.replicas(replicas.base(model)):
            if want := self.stock.wants.get(each.name):
                for proxy in want.proxies:  # else the next want takes it away unused
                    self.stock.traffic.promise(model, proxy)
                self._served(each, want, elsewhere=each.name != model)
        self.apply(model, lifecycle.Loaded(facts))
        if model in self.stock.entries:
            self.measured(self.stock.as_loaded(model), replace(facts.memory, load_ms=facts.load_ms))

    def _served(self, model: Model, want: Waiters, *, elsewhere: bool) -> None:
        """Whoever waits for this replica goes to one that is ready; `elsewhere`: to another one."""
        want.proxies.clear()
        if elsewhere and want.needed:
            return
        self.stock.wants.drop(model.name)
        if elsewhere and model.placeable(self.stock.clock()):  # its back-off ended while it waited for room
            self.apply(model.name, lifecycle.Elapsed())

    def worker_refused(self, model: str, refusal: LoadFailed) -> None:
        self.apply(model, lifecycle.Refused(refusal.cause, refusal.message, refusal.permanent))

    def worker_progressed(self, model: str) -> None:
        state = self.model(model).state
        if state is State.LOADING:
            self._machines.publish(model)
        elif state is State.READY and self.stock.entry(model).model.replicas > 1:
            self._crowds(model, self._workers.of[model].vitals.last)

    def _crowds(self, model: str, last: Pong) -> None:
        """Whether requests wait in this replica for a sequence, and have not just come, to begin at the next step."""
        waited, full = model in self.stock.waited, last.active >= self.stock.entry(model).model.parallel
        waits = last.queued > 0 and (waited or full)
        (self.stock.waited.add if last.queued else self.stock.waited.discard)(model)
        if waits != (model in self.stock.crowded):
            (self.stock.crowded.add if waits else self.stock.crowded.discard)(model)
            self.stock.dirty = True

    def worker_judged(self, model: str, verdict: Verdict, reason: str) -> None:
        if verdict is Verdict.HUNG:
            self.apply(model, lifecycle.Hung(reason))
            return
        if verdict is Verdict.HEALTHY:
            self.stock.suspended.discard(model)
        else:
            self.stock.suspended.add(model)
        self._machines.publish(model)

    def worker_ended(self, model: str, end: Ended) -> None:
        kills = oom.kills()
        taken, self._oom_kills = kills > self._oom_kills and end.code == -9, kills
        self._machines.apply(model, lifecycle.Exited(end.code, taken and not end.beyond, beyond=end.beyond), end)
        if self.model(model).state is State.FAILED:
            self.stock.wants.drop(model)

    def worker_unkillable(self, model: str) -> None:
        self.apply(model, lifecycle.Unkillable())
