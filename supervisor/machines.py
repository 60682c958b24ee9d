"""The models' state machines: the one writer of their states. Feeds them events, does what they decide, and tells."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace

from supervisor import census, crash, journal, lifecycle, process, replicas
from supervisor.control import Attach, Death, Lost, ModelStatus, State
from supervisor.drains import Drains
from supervisor.ledger import Ledger
from supervisor.lifecycle import Model
from supervisor.log import facts
from supervisor.nursery import Ended, Ward
from supervisor.proxies import Proxies
from supervisor.status import Observed, status
from supervisor.stock import AT_REST, Stock
from supervisor.timers import Timers
from supervisor.workers import Workers

log = logging.getLogger("root")
_DESCRIPTORS_AGAIN = 1.0  # seconds


class Machines:
    """`make_room` is called for a load that ran out of memory, `reported` is told of each death."""

    def __init__(self, stock: Stock, timers: Timers, proxies: Proxies, workers: Workers) -> None:
        self._stock, self._timers, self._proxies, self._workers = stock, timers, proxies, workers
        self._clock = stock.clock
        self._drains = Drains(proxies, stock.traffic, timers, stock.clock, self.drained)
        self._tails: dict[str, tuple[str, ...]] = {}
        self.policy = lifecycle.Policy(stock.config.restart)
        self.journal, self.ledger = journal.Journal(), Ledger()
        self.make_room: Callable[[str], None]
        self.reported: Callable[[crash.CrashReport], None] = lambda report: None

    # -- events ------------------------------------------------------------------------------------------------

    def apply(self, name: str, event: lifecycle.Event, end: Ended | None = None) -> None:
        """Feeds a model's machine, tells what became of it, and acts. `end`: how its process ended."""
        before = self._stock.models[name]
        after, actions = lifecycle.step(before, event, self._clock(), self.policy)
        self._stock.models[name] = after
        if end is not None:
            self._tails[name] = end.log_tail
        if after is before:
            return
        self._stock.dirty = True
        if after.state is not before.state:
            self._moved(before, after)
        if end is not None:
            self._died(before, after, end)
        self.publish(name)
        for action in actions:
            self._perform(after, action)

    def forget(self, name: str) -> None:
        """The model is there no more."""
        self._tails.pop(name, None)

    def _perform(self, model: Model, action: lifecycle.Action) -> None:
        match action:
            case lifecycle.StartWorker(generation):
                self._start_worker(model.name, generation)
            case lifecycle.MakeRoom():
                self.make_room(model.name)
            case lifecycle.AttachLinks():
                for proxy in list(self._proxies.running.values()):
                    self.attach(model, proxy)
            case lifecycle.StopWorker(how):
                self._workers.stop(model.name, how)
            case lifecycle.EndStreams(cause, message):
                self._stock.traffic.lost(model.name)
                self._proxies.broadcast(Lost(model.name, model.generation, cause, message))
            case lifecycle.WantAgain():
                if not self._stock.closing:
                    self._stock.want(model.name).background = True
            case _:
                assert_never(action)

    def _moved(self, before: Model, after: Model) -> None:
        """Book-keeping that goes with a change of state."""
        name, now, stock = after.name, self._clock(), self._stock
        census.moved(self.ledger, before, after, now - before.since)
        _tell(before, after, now)
        if after.state is not State.DRAINING:
            self._drains.end(name)
        if after.state is not State.READY:
            stock.crowded.discard(name)
            stock.waited.discard(name)
        if after.state in AT_REST:
            stock.suspended.discard(name)
            stock.stale.discard(name)
            stock.idle.forget(name)
        if after.state is State.UNLOADED:
            stock.overrides.unloaded(name)
        if after.state is State.FAILED:
            stock.overrides.forget(name)
        if after.state is State.READY:
            self._timers.set(("resident", name), now + stock.entry(name).model.min_resident, stock.mark)
        if after.state is State.BACKOFF:
            self._timers.set(("retry", name), after.retry_at or now, lambda: self._retry(name))

    def _retry(self, name: str) -> None:
        """The back-off is over: placement may load it again, if anybody wants it."""
        self._stock.dirty = True
        if name not in self._stock.wants:
            self.apply(name, lifecycle.Elapsed())

    def _start_worker(self, name: str, generation: int) -> None:
        overrides = self._stock.overrides
        overrides.begin(name)
        entry = self._stock.as_loaded(name)
        if entry.card is not None and entry.card.cause in ("file_missing", "config_error"):
            self.apply(name, lifecycle.Refused(entry.card.cause, entry.card.problem, permanent=True))
            self.apply(name, lifecycle.Exited(lifecycle.EX_CONFIG))
            self._stock.wants.drop(name)
            return
        try:
            settings = self._stock.scales.applied(entry.model, replicas.base(name))
            self._workers.load(settings, generation, overrides.template(name))
        except process.StartFailed as error:
            log.error("%s", error)
            self.apply(name, lifecycle.Exited(1, message=str(error)))

    # -- links -------------------------------------------------------------------------------------------------

    def attach(self, model: Model, proxy: Ward) -> None:
        """Joins a proxy and the model's worker by a new link."""
        linked = self._stock.traffic.linked[model.name]
        if proxy in linked or proxy.stopping:
            return
        try:
            with process.link() as (near, far):
                self._workers.join(model.name, int(proxy.role.rpartition("-")[2]), far)
                self._proxies.send(proxy, Attach(model.name, model.generation), [near])
        except OSError as error:
            log.error("no link %s", facts(model=model.name, role=proxy.role, error=error.strerror))
            self.attach_later(model.name)
            return
        linked.add(proxy)

    def attach_later(self, name: str) -> None:
        """There was no descriptor left, here or in a proxy: there may be one soon."""
        self._timers.set(("attach", name), self._clock() + _DESCRIPTORS_AGAIN, lambda: self._attach_again(name))

    def _attach_again(self, name: str) -> None:
        model = self._stock.models.get(name)
        if model is not None and model.state is State.READY:
            for proxy in list(self._proxies.running.values()):
                self.attach(model, proxy)

    # -- drains ------------------------------------------------------------------------------------------------

    def drain(self, name: str, reason: str) -> None:
        """Lets a ready model's requests finish, within the drain's deadline, then stops it."""
        self.apply(name, lifecycle.DrainBegun(reason))
        deadline = self._stock.config.shutdown.drain_timeout
        self._drains.ask(self._stock.models[name], if_idle=False, deadline=deadline)

    def evict(self, name: str) -> None:
        """The same for the sake of another model: what runs has all the time it needs."""
        self.apply(name, lifecycle.DrainBegun("evicted"))
        self._drains.ask(self._stock.models[name], if_idle=False, deadline=None)

    def drain_idle(self, name: str, reason: str, *, final: bool = False) -> None:
        """The same, unless a proxy has something in flight after all."""
        self.apply(name, lifecycle.DrainBegun(reason))
        self._drains.ask(self._stock.models[name], if_idle=True, deadline=None, final=final)

    def drain_for_shutdown(self, name: str, deadline: float) -> None:
        """The proxies have been told already."""
        if self._stock.models[name].state is State.READY:
            self.apply(name, lifecycle.DrainBegun("shutdown"))
            self._drains.wait(name, deadline=deadline)
        else:
            self._drains.limit(name, deadline)

    def drain_answered(self, name: str, proxy: Ward) -> None:
        """A proxy has nothing in flight on the model any more."""
        self._drains.answered(name, proxy)

    def drained(self, name: str) -> None:
        """Nothing is in flight any more, or the deadline is over."""
        self.apply(name, lifecycle.DrainedOut())

    def proxy_gone(self, proxy: Ward) -> None:
        """It counts as drained."""
        self._drains.proxy_gone(proxy)

    def evicting(self, name: str) -> bool:
        """Whether it drains for another's sake, so that it may stay if that leaves."""
        return self._drains.evicting(name)

    def withdraw(self, name: str) -> None:
        """Nobody needs its place any more, or a proxy is busy after all: it stays."""
        if self._stock.models[name].state is State.DRAINING:
            self._drains.withdraw(self._stock.models[name])
            self._stock.wants.drop(name)
            self.apply(name, lifecycle.Reopened())
            if name in self._stock.stale:
                self.drain(name, "removed" if name in self._stock.leaving else "reload")

    def scale(self, name: str) -> None:
        """The scales of its adapters are others: from the next batch on, and for those who ask."""
        self._workers.scale(name, self._stock.lora(name))
        self.publish(name)

    # -- telling -----------------------------------------------------------------------------------------------

    def publish(self, name: str) -> None:
        self._proxies.broadcast(self.journal.changed(self.status(self._stock.models[name])))

    def status(self, model: Model) -> ModelStatus:
        """As it is told to the proxies."""
        stock, name = self._stock, model.name
        ward = self._workers.of.get(name)
        progress = ward.vitals.last.progress if ward and model.state is State.LOADING else 0.0
        files = stock.store.files(name)
        if model.state is State.DOWNLOADING:
            progress = sum(done for done, _ in files.values()) / max(1, sum(total for _, total in files.values()))
        tail = ward.child.log_tail() if ward and model.state is State.FAILED else self._tails.get(name, ())
        seen = Observed(
            ward.child.pid if ward else None,
            progress,
            suspended=name in stock.suspended,
            log_tail=tail,
            idle_timeout=stock.idle.timeout(name),
            blocked_by=stock.blocked.get(name, ()),
            files=files,
            overrides=stock.overrides.of(name),
            load_ms=model.facts.load_ms if model.facts else stock.load_ms(name),
            lora=stock.lora(name),
        )
        return status(model, seen, self._clock(), time.time())

    def _died(self, before: Model, after: Model, end: Ended) -> None:
        lost = self._stock.traffic.in_flight(after.name)
        if death := journal.of_worker(before, after, end, lost, self._clock(), time.time()):
            self.tell_death(death, end)

    def tell_death(self, death: Death, end: Ended) -> None:
        """A child's end that nobody asked for."""
        if self._stock.config.state.crash_reports:
            death = replace(death, report=crash.name(death.role, death.at))
            self.reported(crash.report(death, end))
        self.ledger.count("llama_supervisor_deaths_total", death.model, death.cause)
        self._proxies.broadcast(self.journal.died(death))


def _tell(before: Model, after: Model, now: float) -> None:
    level = logging.WARNING if after.state in (State.BACKOFF, State.FAILED) else logging.INFO
    took = f"{now - before.since:.2f}s"
    why = {"cause": after.cause, "signal": after.signal, "message": after.message, "reason": after.stop_reason}
    log.log(level, "%s → %s %s", before.state.name, after.state.name, facts(model=after.name, after=took, **why))
