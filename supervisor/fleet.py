"""The models: the one writer of their state. Feeds the pure machines and performs what they decide.

Events come from the proxies (wants, activity, drains), the workers (ready, dead, hung) and the clock; after each turn
of the root's loop `settle` lets placement decide who loads and who goes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, assert_never

from supervisor import (
    budget,
    catalog,
    census,
    commands,
    config,
    journal,
    lifecycle,
    machine,
    oom,
    placement,
    process,
    roster,
)
from supervisor.control import (
    Activity,
    Answer,
    Attach,
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
    State,
    Unwant,
    Want,
)
from supervisor.drains import Drains
from supervisor.figures import Series
from supervisor.idle import Idle
from supervisor.ledger import Ledger
from supervisor.lifecycle import Model
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.nursery import Ended, Ward
from supervisor.overrides import Overrides
from supervisor.proxies import Proxies, ProxyMessage
from supervisor.status import Observed, status, summary
from supervisor.timers import Timers
from supervisor.traffic import Traffic
from supervisor.wants import Want as Waiters
from supervisor.wants import Wants
from supervisor.workers import Workers

log = logging.getLogger("root")
_AT_REST = (State.UNLOADED, State.BACKOFF, State.FAILED)


class Store(Protocol):
    """What fetches models and deletes them."""

    def obey(self, command: ModelCommand, reply: Callable[[Answer], None]) -> None: ...

    def files(self, name: str) -> Mapping[str, tuple[int, int]]: ...

    def cancel(self, name: str) -> None: ...

    def wanted(self, entry: Entry) -> None: ...

    def gone(self, name: str) -> None: ...


class _NoStore:
    """Nothing can be fetched."""

    def obey(self, command: ModelCommand, reply: Callable[[Answer], None]) -> None:
        reply(Answer(command.ticket, "unsupported_feature", "this server fetches no models"))

    def files(self, name: str) -> Mapping[str, tuple[int, int]]:
        return {}

    def cancel(self, name: str) -> None: ...

    def wanted(self, entry: Entry) -> None: ...

    def gone(self, name: str) -> None: ...


class Fleet:
    """All models of the catalog. `proxies` and `workers` act for it; it is what they report to.

    `measured` is told what a load took; `store` fetches models and deletes them.
    """

    def __init__(
        self,
        settings: config.Config,
        timers: Timers,
        proxies: Proxies,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._timers, self._proxies, self._workers = settings, timers, proxies, workers
        self._clock = clock
        self._policy = lifecycle.Policy(settings.restart)
        now = self._clock()
        self._entries = catalog.entries(settings, catalog.Findings())[0]
        self._models = {name: Model(name, since=now) for name in self._entries}
        self._leaving: dict[str, Entry] = {}  # in the catalog no more, but not gone yet
        self._retired: dict[str, int] = {}  # the generations of those that went: a link's is never used twice
        self.journal = journal.Journal()
        self._wants, self._traffic = Wants(), Traffic()
        self._idle = Idle(lambda name: self._entry(name).model, settings.admission.keep_alive_max)
        self._drains = Drains(proxies, self._traffic, timers, clock, self._drained)
        self._overrides = Overrides()
        self._room: dict[str, str] = {}  # a load that ran out of memory → who goes for it, "" for nobody
        self._suspended: set[str] = set()
        self._stale: set[str] = set()  # drain, but have other settings by now than they were loaded with
        self._tails: dict[str, tuple[str, ...]] = {}
        self._blocked: dict[str, tuple[str, ...]] = {}
        self._ram, self._gpus = machine.ram(), tuple[int, ...]()
        self._oom_kills = oom.kills()
        self._dirty = True
        self.closing = False
        self.ledger = Ledger()
        self.measured: Callable[[Entry, Footprint], None] = lambda entry, footprint: None
        self.store: Store = _NoStore()

    # -- the tree's side ---------------------------------------------------------------------------------------

    def preload(self) -> None:
        """Orders the models that are to be loaded from the start."""
        for name, entry in self._entries.items():
            if entry.model.preload:
                self._new_want(name).background = True

    def settle(self) -> None:
        """Lets placement decide until nothing changes; then sees to the standby and the CPU turns."""
        while self._dirty and not self.closing:
            self._dirty = False
            self._place()
            self._retire()
            self._retry_loads()
        self._remove_the_gone()
        states = [model.state for model in self._models.values()]
        if State.LOADING not in states:
            self._workers.keep_standby()
        self._workers.neighbours(sum(map(self._computes, self._models.values())))

    def shut_down(self, deadline: float) -> None:
        """No more loads; every model drains, then stops. The proxies have been told already."""
        self.closing = True
        self._wants.clear()
        for name, model in self._models.items():
            match model.state:
                case State.LOADING:
                    self.apply(name, lifecycle.Cancelled("shutdown"))
                case State.READY:
                    self.apply(name, lifecycle.DrainBegun("shutdown"))
                    self._drains.wait(name, deadline=deadline)
                case State.DRAINING:
                    self._drains.limit(name, deadline)
                case _:
                    pass

    def reconfigure(self, settings: config.Config) -> None:
        """Takes over limits; `adopt` is told of the models."""
        self._config = settings
        self._policy = lifecycle.Policy(settings.restart)
        self._idle.limit(settings.admission.keep_alive_max)
        self._try_refused_again()

    def adopt(self, entries: dict[str, Entry], gpus: tuple[int, ...] = ()) -> None:
        """Another catalog: models come, change and go. One that runs drains first. `gpus`: bytes of each."""
        if self.closing:
            return
        self._gpus = gpus
        change = roster.change(self._entries, entries)
        self._leaving |= {name: self._entries[name] for name in change.gone}
        self._entries = dict(entries)
        for name in change.added:
            self._add(name)
        told = [*change.added, *change.changed]
        if told:
            statuses = tuple(self._status(self._models[name]) for name in change.added)
            reload = bool(change.added or change.shown)
            self._proxies.broadcast(self.journal.listed(tuple(entries[name] for name in told), statuses, reload))
        for name in told:
            if name in self._wants:
                self.store.wanted(entries[name])
        for name in change.changed:
            self.publish(name)  # the time in which it goes may be another
        for name in change.reload:
            self._begin_anew(name)
        for name in change.repaired:
            if self._models[name].state is State.FAILED:
                self.apply(name, lifecycle.Cleared())
        for name in change.gone:
            self._leave(name)
        self._remove_the_gone()  # now: who asked for the scan is answered next
        self._try_refused_again()

    def entries(self) -> tuple[Entry, ...]:
        return (*self._entries.values(), *self._leaving.values())

    @property
    def catalog(self) -> Mapping[str, Entry]:
        """The models there are, by name."""
        return self._entries

    @property
    def running(self) -> set[str]:
        """Models that have a process with their present settings."""
        busy = (State.LOADING, State.READY, State.DRAINING)
        return {name for name, model in self._models.items() if model.state in busy}

    def summary(self) -> str:
        """One line for the service manager."""
        return summary(self._models.values())

    # -- what commands need ------------------------------------------------------------------------------------

    def model(self, name: str) -> Model:
        return self._models[name]

    def wanted(self, name: str) -> bool:
        return name in self._wants

    def order(self, name: str) -> None:
        """Somebody wants it loaded, and does not wait."""
        self._new_want(name).ordered = True

    def cancel_download(self, name: str) -> None:
        """Its process is told to end; what is there already stays."""
        self.store.cancel(name)

    def overridden(self, name: str) -> Mapping[str, Any]:
        """The settings of its load that are not the configuration's."""
        return self._overrides.of(name)

    def override(self, name: str, settings: dict[str, Any]) -> None:
        """Its next load is to have these settings, until it is unloaded."""
        self._overrides.ask(name, settings)

    def forget(self, name: str) -> None:
        """Nobody wants it any more; whoever waits is told that the load was called off."""
        self._overrides.forget(name)
        self._wants.drop(name)
        text = "the load was called off by a request to unload the model"
        self._proxies.broadcast(Lost(name, self._models[name].generation, "unloaded", text))

    # -- what the store says -----------------------------------------------------------------------------------

    def entry(self, name: str) -> Entry | None:
        """A model of the catalog."""
        return self._entries.get(name)

    def download_begun(self, name: str) -> bool:
        """Whether it is in a state in which its files can be fetched; then it is in DOWNLOADING now."""
        self.apply(name, lifecycle.DownloadBegun())
        return self._models[name].state is State.DOWNLOADING

    def download_moved(self, name: str) -> None:
        if name in self._models:
            self.publish(name)

    def download_ended(self, name: str, message: str = "", *, cancelled: bool = False) -> None:
        """`message`: why it failed. Whoever has a list is told to ask for it again."""
        if name in self._models:
            self.apply(name, lifecycle.DownloadEnded(message, cancelled))
            if self._models[name].state is State.FAILED:
                self._wants.drop(name)
            self._proxies.broadcast(self.journal.listed(()))

    # -- what proxies say (Models) -----------------------------------------------------------------------------

    def statuses(self) -> tuple[ModelStatus, ...]:
        return tuple(self._status(model) for model in self._models.values())

    def figures(self) -> list[Series]:
        """What all processes have counted, and how the models are now."""
        present = census.present(self._models.values(), self._workers.of, self._clock())
        memory = census.memory(map(self._resident, self._models.values()), self._budgets)
        return [*self.ledger.total(), *present, *memory]

    def attach_all(self, proxy: Ward) -> None:
        for model in self._models.values():
            if model.state is State.READY:
                self._attach(model, proxy)

    def from_proxy(self, proxy: Ward, message: ProxyMessage) -> None:
        if isinstance(message, ModelCommand):
            log.info("command %s", facts(verb=message.verb, model=message.model, role=proxy.role))
            if message.verb in ("pull", "remove"):
                self.store.obey(message, lambda answer: self._proxies.send(proxy, answer))
                return
        if message.model not in self._models:
            self._unknown(proxy, message)
            return
        match message:
            case Want(model, priority):
                self._want(model, proxy, priority)
            case Unwant(model):
                self._unwant(model, proxy)
            case Activity(model, generation, in_flight):
                self._activity(model, generation, proxy, in_flight)
            case KeepAlive(model, generation, seconds):
                self._keep_alive(model, generation, seconds)
            case Drained(model, generation):
                if generation == self._models[model].generation:
                    self._drains.answered(model, proxy)
            case Busy(model, generation):
                if generation == self._models[model].generation:
                    self._traffic.used(model, self._clock())  # its Activity is on the way
                    self._withdraw(model)
            case LinkBroken(model, generation, reason):
                self._link_broken(model, generation, proxy, reason)
            case ModelCommand():
                self._proxies.send(proxy, commands.obey(self, message))
            case _:
                assert_never(message)

    def _unknown(self, proxy: Ward, message: ProxyMessage) -> None:
        if isinstance(message, ModelCommand):
            text = f'model "{message.model}" is there no more'
            self._proxies.send(proxy, Answer(message.ticket, "model_not_found", text))
        elif message.model not in self._retired:  # else it was on its way when the model went
            log.error("a proxy names no model of ours %s", facts(role=proxy.role, model=message.model))

    def proxy_gone(self, proxy: Ward) -> None:
        """It died, or has finished: it wants nothing, has nothing in flight, and counts as drained."""
        for name in self._wants.of_proxy(proxy):
            self._unwant(name, proxy)
        self._traffic.unlink(proxy, self._clock())
        self._drains.proxy_gone(proxy)
        self._dirty = True

    def proxy_died(self, proxy: Ward, end: Ended) -> None:
        """The other proxies are told."""
        self._proxies.broadcast(self.journal.died(journal.of_proxy(proxy.role, end, time.time())))

    # -- what workers do (Lives) -------------------------------------------------------------------------------

    def worker_ready(self, model: str, facts: Facts) -> None:
        if self._models[model].state is not State.LOADING:
            return  # its word crossed the order to stop: who waits, waits for the next one
        now = self._clock()
        self._traffic.used(model, now)
        if want := self._wants.get(model):
            for proxy in want.proxies:  # else the next want takes it away unused
                self._traffic.promise(model, proxy)
        self._wants.drop(model)
        self.apply(model, lifecycle.Loaded(facts))
        if model in self._entries:
            self.measured(self._as_loaded(model), facts.memory)

    def worker_refused(self, model: str, refusal: LoadFailed) -> None:
        self.apply(model, lifecycle.Refused(refusal.cause, refusal.message, refusal.permanent))

    def worker_progressed(self, model: str) -> None:
        if self._models[model].state is State.LOADING:
            self.publish(model)

    def worker_judged(self, model: str, verdict: Verdict, reason: str) -> None:
        if verdict is Verdict.HUNG:
            self.apply(model, lifecycle.Hung(reason))
            return
        if verdict is Verdict.HEALTHY:
            self._suspended.discard(model)
        else:
            self._suspended.add(model)
        self.publish(model)

    def worker_ended(self, model: str, end: Ended) -> None:
        self._tails[model] = end.log_tail
        kills = oom.kills()
        taken, self._oom_kills = kills > self._oom_kills and end.code == -9, kills
        self.apply(model, lifecycle.Exited(end.code, taken), end)
        if self._models[model].state is State.FAILED:
            self._wants.drop(model)

    def worker_unkillable(self, model: str) -> None:
        self.apply(model, lifecycle.Unkillable())

    # -- deciding ----------------------------------------------------------------------------------------------

    def _place(self) -> None:
        now = self._clock()
        limits = self._config.placement.max_models, self._config.admission.max_wait
        residents = map(self._resident, self._models.values())
        plan = placement.plan(residents, self._wants.in_order(), *limits, now, self._budgets)
        for name, why in plan.refuse.items():
            self._wants.drop(name)
            self.apply(name, lifecycle.Impossible(why))
        self._explain(plan.blocked)
        for name in plan.reopen:
            self._withdraw(name)
        for name in plan.load:
            self.apply(name, lifecycle.Place())
        for name in plan.evict:
            self._drain_idle(name, "evicted")
        for name in plan.close:
            self._evict(name)
        for name in self._wants.background():
            if self._models[name].placeable(now) and name not in plan.load:
                self._give_up(name)

    def _retire(self) -> None:
        """Models that nobody has used for their time go; the others are looked at when that may be so."""
        now = self._clock()
        for name, model in self._models.items():
            if model.state is not State.READY or self._traffic.in_flight(name):
                continue
            due = self._idle.due(name, self._traffic.last_used(name))
            if due is None:
                continue
            if due <= now:
                self._drain_idle(name, "idle")
            else:
                self._timers.no_later(("idle", name), due, self._mark)

    def _make_room(self, name: str) -> None:
        """Its load ran out of memory: one idle model goes for it, before it is tried once more."""
        wanted = {want.name for want in self._wants.in_order()}
        self._room[name] = victim = placement.spare(map(self._resident, self._models.values()), name, wanted)
        log.warning("out of memory at load, trying once more %s", facts(model=name, evicts=victim or "nobody"))
        if victim:
            self._drain_idle(victim, "evicted", final=True)

    def _retry_loads(self) -> None:
        """Those loads for which room was made go on; one whose place has gone meanwhile is placed anew."""
        limit = self._config.placement.max_models
        for name, victim in list(self._room.items()):
            if not (model := self._models.get(name)) or not model.makes_room:
                del self._room[name]
            elif not self._goes(victim):
                del self._room[name]
                crowded = placement.crowded(map(self._resident, self._models.values()), name, limit)
                self.apply(name, lifecycle.Cancelled("evicted") if crowded else lifecycle.RoomMade())

    def _goes(self, name: str) -> bool:
        """Whether this model is about to free its memory; without a name: whether any is."""
        models = [self._models[name]] if name in self._models else [] if name else self._models.values()
        leaving = (State.DRAINING, State.STOPPING) if name else (State.STOPPING,)
        return any(model.state in leaving for model in models)

    def _give_up(self, name: str) -> None:
        """A preload or a restart evicts nobody: without a free place it is left until somebody asks."""
        log.info("no free place %s", facts(model=name, max_models=self._config.placement.max_models))
        self._wants.drop(name)
        self.apply(name, lifecycle.Elapsed())

    def _explain(self, blocked: dict[str, list[str]]) -> None:
        """Says of each model that waits for others which these are, when that changes."""
        before, self._blocked = self._blocked, {name: tuple(others) for name, others in blocked.items()}
        for name in {*before, *self._blocked}:
            others = self._blocked.get(name, ())
            if others != before.get(name, ()) and name in self._models:
                if others:
                    log.info("waits for room %s", facts(model=name, in_memory=",".join(others)))
                    self._workers.warm(self._entry(name).model)
                self.publish(name)

    def _try_refused_again(self) -> None:
        """There may be other limits, or other needs, now."""
        for name, model in list(self._models.items()):
            refused = model.state is State.FAILED and model.cause == "insufficient_memory"
            if refused and not placement.too_large(self._resident(model), self._budgets):
                self.apply(name, lifecycle.Cleared())
        self._dirty = True

    @property
    def _budgets(self) -> dict[str, int]:
        return budget.budgets(self._config.placement, self._ram, self._gpus)

    def _resident(self, model: Model) -> placement.Resident:
        name, entry = model.name, self._as_loaded(model.name)
        return placement.Resident(
            name,
            model.state,
            in_flight=self._traffic.in_flight(name),
            last_used=self._traffic.last_used(name),
            pinned=entry.model.pin,
            placeable=model.placeable(self._clock()) and not entry.pending and name not in self._leaving,
            evicting=self._drains.evicting(name),
            stuck=model.stuck,
            needs=entry.needs,
            priority=entry.model.priority,
            group=entry.model.group,
            promised=self._traffic.promised(name),
            settling=model.state is State.READY and self._clock() < model.since + entry.model.min_resident,
        )

    def _computes(self, model: Model) -> bool:
        on_cpu = model.facts is None or model.facts.on_cpu
        return on_cpu and model.state in (State.READY, State.DRAINING) and model.name not in self._suspended

    # -- the catalog -------------------------------------------------------------------------------------------

    def _entry(self, name: str) -> Entry:
        return self._entries.get(name) or self._leaving[name]

    def _as_loaded(self, name: str) -> Entry:
        """With the settings that were asked for."""
        return self._overrides.entry(self._entry(name), len(self._gpus))

    def _add(self, name: str) -> None:
        if self._leaving.pop(name, None) is None:
            self._models[name] = Model(name, since=self._clock(), generation=self._retired.pop(name, 0))
        if self._entries[name].model.preload:
            self._new_want(name).background = True

    def _begin_anew(self, name: str) -> None:
        """What it is loaded with has changed: the next load takes the new settings."""
        match self._models[name].state:
            case State.READY:
                self.drain(name, "reload")
            case State.LOADING:
                self.apply(name, lifecycle.Cancelled("reload"))
            case State.DRAINING:
                self._stale.add(name)  # the drain may be withdrawn
            case State.FAILED | State.BACKOFF:
                self.apply(name, lifecycle.Cleared())
            case _:
                pass

    def _leave(self, name: str) -> None:
        """In the catalog no more: it drains, and is forgotten once it has ended."""
        if self._models[name].state not in (State.READY, State.DRAINING):  # else what runs may end
            self.forget(name)
        self._wants.drop(name)
        match self._models[name].state:
            case State.READY:
                self.drain(name, "removed")
            case State.LOADING:
                self.apply(name, lifecycle.Cancelled("removed"))
            case State.DOWNLOADING:
                self.store.cancel(name)
            case _:
                pass

    def _remove_the_gone(self) -> None:
        models = [self._models[name] for name in self._leaving]
        for model in models:
            if model.state in _AT_REST and not model.stuck:  # one that is stuck has a process that will end
                self._remove(model)

    def _remove(self, model: Model) -> None:
        name = model.name
        del self._leaving[name], self._models[name]
        self._retired[name] = model.generation
        self._wants.drop(name)
        self._overrides.forget(name)
        self._tails.pop(name, None)
        for timer in ("retry", "want", "resident", "idle"):
            self._timers.cancel((timer, name))
        self._proxies.broadcast(self.journal.unlisted(name))
        self.store.gone(name)

    # -- acting ------------------------------------------------------------------------------------------------

    def apply(self, name: str, event: lifecycle.Event, end: Ended | None = None) -> None:
        """Feeds a model's machine, tells what became of it, and acts. `end`: how its process ended."""
        before = self._models[name]
        after, actions = lifecycle.step(before, event, self._clock(), self._policy)
        self._models[name] = after
        if after is before:
            return
        self._dirty = True
        if after.state is not before.state:
            self._moved(before, after)
        if end is not None:
            self._died(before, after, end)
        self.publish(name)
        for action in actions:
            self._perform(after, action)

    def _perform(self, model: Model, action: lifecycle.Action) -> None:
        match action:
            case lifecycle.StartWorker(generation):
                self._start_worker(model.name, generation)
            case lifecycle.MakeRoom():
                self._make_room(model.name)
            case lifecycle.AttachLinks():
                for proxy in list(self._proxies.running.values()):
                    self._attach(model, proxy)
            case lifecycle.StopWorker(how):
                self._workers.stop(model.name, how)
            case lifecycle.EndStreams(cause, message):
                self._traffic.lost(model.name)
                self._proxies.broadcast(Lost(model.name, model.generation, cause, message))
            case lifecycle.WantAgain():
                if not self.closing:
                    self._new_want(model.name).background = True
            case _:
                assert_never(action)

    def _moved(self, before: Model, after: Model) -> None:
        """Book-keeping that goes with a change of state."""
        name, now = after.name, self._clock()
        census.moved(self.ledger, before, after, now - before.since)
        level = logging.WARNING if after.state in (State.BACKOFF, State.FAILED) else logging.INFO
        took = f"{now - before.since:.2f}s"
        why = {"cause": after.cause, "signal": after.signal, "message": after.message, "reason": after.stop_reason}
        log.log(level, "%s → %s %s", before.state.name, after.state.name, facts(model=name, after=took, **why))
        if after.state is not State.DRAINING:
            self._drains.end(name)
        if after.state in (State.UNLOADED, State.BACKOFF, State.FAILED):
            self._suspended.discard(name)
            self._stale.discard(name)
            self._idle.forget(name)
        if after.state is State.UNLOADED:
            self._overrides.unloaded(name)
        if after.state is State.FAILED:
            self._overrides.forget(name)
        if after.state is State.READY:
            self._timers.set(("resident", name), now + self._entry(name).model.min_resident, self._mark)
        if after.state is State.BACKOFF:
            self._timers.set(("retry", name), after.retry_at or now, lambda: self._retry(name))

    def _start_worker(self, name: str, generation: int) -> None:
        self._overrides.begin(name)
        entry = self._as_loaded(name)
        if entry.card is not None and entry.card.cause == "file_missing":
            self.apply(name, lifecycle.Refused(entry.card.cause, entry.card.problem, permanent=True))
            self.apply(name, lifecycle.Exited(lifecycle.EX_CONFIG))
            self._wants.drop(name)
            return
        try:
            self._workers.load(entry.model, generation, self._overrides.template(name))
        except process.StartFailed as error:
            log.error("%s", error)
            self.apply(name, lifecycle.Exited(1, message=str(error)))

    def _attach(self, model: Model, proxy: Ward) -> None:
        """Joins a proxy and the model's worker by a new link."""
        if proxy in self._traffic.linked[model.name] or proxy.stopping:
            return
        try:
            with process.link() as (near, far):
                self._workers.join(model.name, int(proxy.role.rpartition("-")[2]), far)
                self._proxies.send(proxy, Attach(model.name, model.generation), [near])
        except OSError as error:  # no descriptors left: the proxy will ask again
            log.error("no link %s", facts(model=model.name, role=proxy.role, error=error.strerror))
            return
        self._traffic.linked[model.name].add(proxy)

    def publish(self, name: str) -> None:
        self._proxies.broadcast(self.journal.changed(self._status(self._models[name])))

    def _died(self, before: Model, after: Model, end: Ended) -> None:
        lost = self._traffic.in_flight(after.name)
        if death := journal.of_worker(before, after, end, lost, self._clock(), time.time()):
            self._proxies.broadcast(self.journal.died(death))

    def _status(self, model: Model) -> ModelStatus:
        ward = self._workers.of.get(model.name)
        progress = ward.vitals.last.progress if ward and model.state is State.LOADING else 0.0
        files = self.store.files(model.name)
        if model.state is State.DOWNLOADING:
            progress = sum(done for done, _ in files.values()) / max(1, sum(total for _, total in files.values()))
        tail = ward.child.log_tail() if ward and model.state is State.FAILED else self._tails.get(model.name, ())
        pid = ward.child.pid if ward else None
        seen = Observed(
            pid,
            progress,
            suspended=model.name in self._suspended,
            log_tail=tail,
            idle_timeout=self._idle.timeout(model.name),
            blocked_by=self._blocked.get(model.name, ()),
            files=files,
            overrides=self._overrides.of(model.name),
        )
        return status(model, seen, self._clock(), time.time())

    # -- wants -------------------------------------------------------------------------------------------------

    def _want(self, name: str, proxy: Ward, priority: int) -> None:
        model = self._models[name]
        if self.closing or model.state is State.FAILED:
            self.publish(name)
            return
        if model.state is State.READY:
            self._attach(model, proxy)
            return
        self._new_want(name).proxies[proxy] = priority

    def _new_want(self, name: str) -> Waiters:
        now = self._clock()
        if name not in self._wants:
            due = now + self._config.admission.max_wait
            self._timers.set(("want", name), due, self._mark)
        self._dirty = True
        want = self._wants.add(name, now)
        if entry := self._entries.get(name):
            self.store.wanted(entry)
        return want

    def _unwant(self, name: str, proxy: Ward) -> None:
        if not self._wants.leave(name, proxy):
            return
        self._dirty = True
        model = self._models[name]
        if model.state is State.LOADING:
            self.apply(name, lifecycle.Cancelled("unwanted"))
        elif model.placeable(self._clock()):  # its back-off ended while it waited for room
            self.apply(name, lifecycle.Elapsed())

    def _retry(self, name: str) -> None:
        """The back-off is over: placement may load it again, if anybody wants it."""
        self._dirty = True
        if name not in self._wants:
            self.apply(name, lifecycle.Elapsed())

    def _mark(self) -> None:
        self._dirty = True

    def _activity(self, name: str, generation: int, proxy: Ward, in_flight: int) -> None:
        if generation != self._models[name].generation:
            return
        self._traffic.report(name, proxy, in_flight, self._clock())
        self._dirty = True

    def _keep_alive(self, name: str, generation: int, seconds: float) -> None:
        if generation == self._models[name].generation and self._idle.say(name, seconds):
            self._dirty = True
            self.publish(name)

    # -- drains ------------------------------------------------------------------------------------------------

    def drain(self, name: str, reason: str) -> None:
        """Lets a ready model's requests finish, within the drain's deadline, then stops it."""
        self.apply(name, lifecycle.DrainBegun(reason))
        self._drains.ask(self._models[name], if_idle=False, deadline=self._config.shutdown.drain_timeout)

    def _evict(self, name: str) -> None:
        """The same for the sake of another model: what runs has all the time it needs."""
        self.apply(name, lifecycle.DrainBegun("evicted"))
        self._drains.ask(self._models[name], if_idle=False, deadline=None)

    def _drain_idle(self, name: str, reason: str, *, final: bool = False) -> None:
        """The same, unless a proxy has something in flight after all."""
        self.apply(name, lifecycle.DrainBegun(reason))
        self._drains.ask(self._models[name], if_idle=True, deadline=None, final=final)

    def _drained(self, name: str) -> None:
        self.apply(name, lifecycle.DrainedOut())

    def _withdraw(self, name: str) -> None:
        """Nobody needs its place any more, or a proxy is busy after all: it stays."""
        if self._models[name].state is State.DRAINING:
            self._drains.withdraw(self._models[name])
            self._wants.drop(name)
            self.apply(name, lifecycle.Reopened())
            if name in self._stale:
                self.drain(name, "reload")

    def _link_broken(self, name: str, generation: int, proxy: Ward, reason: str) -> None:
        model = self._models[name]
        if generation != model.generation or model.state is not State.READY:
            return
        log.warning("link broken %s", facts(model=name, role=proxy.role, reason=reason))
        if self._traffic.broke(name, proxy, self._clock()):
            self.apply(name, lifecycle.Hung(f"its links keep breaking: {reason}"))
        else:
            self._attach(model, proxy)
