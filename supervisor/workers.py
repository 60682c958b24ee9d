"""The worker processes: one for each replica of a loaded model, and one standby with its imports done."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Protocol, assert_never

import msgspec

from supervisor import config, ladder, replicas, restart
from supervisor.boot import STANDBY
from supervisor.cgroup import Cgroups, Group
from supervisor.control import (
    Activity,
    AskFigures,
    AskRoll,
    Blamed,
    Busy,
    ConfigureWorker,
    Discarded,
    Downloaded,
    DownloadFailed,
    Drained,
    Facts,
    Fetched,
    Finding,
    FolderChanged,
    Inquiry,
    KeepAlive,
    KeyUse,
    Known,
    LinkBroken,
    Listening,
    LoadFailed,
    Message,
    ModelCommand,
    Neighbours,
    Peer,
    Planned,
    Pong,
    Ready,
    Reload,
    Report,
    Scanned,
    SetScales,
    ShutDown,
    Stuck,
    ToRoot,
    Unwant,
    Want,
    Warm,
)
from supervisor.ledger import Ledger
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.nursery import Ended, Nursery, Ward
from supervisor.parks import Parks, free_memory
from supervisor.process import StartFailed
from supervisor.timers import Timers

log = logging.getLogger("root")
_LADDERS = {"polite": ladder.polite, "hung": ladder.hung, "cancel": ladder.cancel}
_STANDBY_DELAY = 0.3


class Lives(Protocol):
    """Who is told what becomes of a model's worker."""

    ledger: Ledger

    def worker_ready(self, model: str, facts: Facts) -> None: ...

    def worker_refused(self, model: str, refusal: LoadFailed) -> None: ...

    def worker_progressed(self, model: str) -> None: ...

    def worker_judged(self, model: str, verdict: Verdict, reason: str) -> None: ...

    def worker_ended(self, model: str, end: Ended) -> None: ...

    def worker_unkillable(self, model: str) -> None: ...


class Workers:
    """Owner of the worker processes; at most one for each replica. `of` leads from its name to it."""

    def __init__(self, nursery: Nursery, timers: Timers, settings: config.Config) -> None:
        self.of: dict[str, Ward] = {}
        self._model: dict[Ward, str] = {}
        self._settings: dict[str, config.Model] = {}  # what they were loaded with
        self._nursery, self._timers, self._config = nursery, timers, settings
        self._standby: Ward | None = None
        self._standby_history = restart.History()
        self._draw = random.Random()  # noqa: S311 - spreads restarts
        self._turn = os.memfd_create("lsv-turn")  # its lock is the CPU turn
        self._parking = _resolved(settings.parking)
        self._parks = Parks(self._parking.budget)
        self._computing = 0
        self._costs: dict[str, tuple[config.Model, dict[int, float]]] = {}  # as measured with these settings
        self._cgroups, self._groups = Cgroups(), dict[Ward, Group]()
        self._closing = False
        self.show_ring: Callable[[str, int], None] = lambda source, fd: None  # whoever wants to read what they log
        self.lives: Lives

    def reconfigure(self, settings: config.Config) -> None:
        self._config = settings

    def load(self, model: config.Model, generation: int, template: str = "") -> None:
        """Gives the model to the standby, or to a new process. `template`: see ConfigureWorker. Raises StartFailed."""
        assert model.name not in self.of, model.name
        ward = self._take_standby(model.worker) or self._nursery.start(model.worker, f"w:{model.name}", self)
        ward.child.role = f"w:{model.name}"
        self.of[model.name] = ward
        self._model[ward] = model.name
        self._settings[model.name] = model
        self.show_ring(ward.role, ward.child.ring)
        settings, costs = self._costs.get(replicas.base(model.name), (model, {}))
        known = costs if _alike(settings, model) else {}
        bound = 0 if self._confined(ward, model.memory_limit) else model.memory_limit
        order = ConfigureWorker(model, generation, self._parking, template, known, bound)
        try:
            self._nursery.send(ward, order, [self._turn, *self._parks.lend(model.name)])
        except OSError as error:  # no descriptors left: without its order it is of no use, and its end is a death
            log.error("no order for a worker %s", facts(role=ward.role, error=error.strerror))
            self._nursery.stop(ward, ladder.cancel)

    def _confined(self, ward: Ward, limit: int) -> bool:
        """Whether the kernel holds the process to its limit."""
        group = self._cgroups.confine(ward.child.pid, limit) if limit else None
        if group is not None:
            self._groups[ward] = group
        return group is not None

    def _freed(self, ward: Ward, model: str, end: Ended) -> Ended:
        """Its group goes; if the limit was the end of it, that is why it died."""
        if (group := self._groups.pop(ward, None)) is None:
            return end
        killed, limit = group.killed(), self._settings[model].memory_limit
        group.close()
        text = f"the kernel killed the worker: [models.{replicas.base(model)}].memory_limit is {limit >> 20} MiB"
        return dataclasses.replace(end, beyond=text) if killed else end

    def warm(self, model: config.Model) -> None:
        """Has the standby read a model's file that waits for its place, so that its load need not read the disk."""
        if self._standby is not None and model.path:
            self._nursery.send(self._standby, Warm(model.path))

    def join(self, model: str, proxy: int, fd: int) -> None:
        """Hands one end of a link to the model's worker; the caller closes its copy."""
        self._nursery.send(self.of[model], Peer(proxy), [fd])

    def stop(self, model: str, how: str) -> None:
        """Brings the model's process to its end: polite, hung or cancel."""
        if ward := self.of.get(model):
            self._nursery.stop(ward, _LADDERS[how])

    def neighbours(self, count: int) -> None:
        """Tells the workers how many of them compute on these cores."""
        if count != self._computing:
            self._computing = count
            for ward in self.of.values():
                self._nursery.send(ward, Neighbours(count))

    def scale(self, model: str, scales: tuple[float, ...]) -> None:
        """Tells the model's worker, if there is one, the scales of its LoRA adapters."""
        if ward := self.of.get(model):
            self._nursery.send(ward, SetScales(scales))

    def keep_standby(self) -> None:
        """Starts a standby soon, if there is none: not at once, since a model that just loaded has the cores."""
        if self._standby is None and not self._closing and not self._timers.pending(STANDBY):
            self._timers.set(STANDBY, time.monotonic() + _STANDBY_DELAY, self._start_standby)

    def _start_standby(self) -> None:
        try:
            self._standby = self._nursery.start(self._entry(), STANDBY, self)
        except StartFailed as error:
            log.error("%s", error)
            self._standby_again(0.0)

    def close(self) -> None:
        """No more loads; the standby goes."""
        self._closing = True
        self._timers.cancel(STANDBY)
        if self._standby:
            self._nursery.stop(self._standby, ladder.cancel)

    def _entry(self) -> str:
        """The worker program that most models use."""
        entries = [model.worker for model in (*self._config.models.values(), self._config.defaults)]
        return max(entries, key=entries.count)

    def _take_standby(self, entry: str) -> Ward | None:
        """The standby, if it runs the right program and lives. It need not have finished its imports."""
        ward = self._standby
        if ward is None or entry != self._entry() or ward.verdict is not Verdict.HEALTHY or ward.stopping:
            return None
        self._standby = None
        if not self._closing:  # at once: swaps come in rows (back to back on two cores 1.1 → 0.7 s, measured)
            self._timers.set(STANDBY, time.monotonic(), self._start_standby)
        return ward

    def _standby_again(self, lived: float) -> None:
        now = time.monotonic()
        policy = self._config.restart
        self._standby_history, delay = restart.after_death(self._standby_history, now, lived, policy, self._draw)
        wait = policy.window if delay is None else delay
        self._timers.set(STANDBY, now + wait, self._start_standby)

    # -- Owner -------------------------------------------------------------------------------------------------

    def heard(self, ward: Ward, message: ToRoot, fds: list[int]) -> None:
        model = self._model.get(ward)
        match message:
            case Pong():
                if model is not None:
                    self.lives.worker_progressed(model)
            case Ready(facts, costs):
                if model is not None:
                    self._costs[replicas.base(model)] = self._settings[model], costs
                    self._nursery.send(ward, Neighbours(self._computing))
                    self.lives.worker_ready(model, facts)
            case LoadFailed():
                if model is not None:
                    self.lives.worker_refused(model, message)
            case Listening() | Want() | Unwant() | Activity() | Drained() | Busy() | LinkBroken() | ModelCommand():
                self._out_of_place(ward, message)
            case Report(series):
                if model is not None:
                    self.lives.ledger.report(ward, series, (replicas.base(model),))
            case KeepAlive() | KeyUse() | Blamed() | ShutDown() | AskFigures() | AskRoll() | Inquiry() | Finding():
                self._out_of_place(ward, message)
            case Reload() | Known() | Scanned() | FolderChanged() | Stuck() | Discarded():
                self._out_of_place(ward, message)
            case Planned() | Fetched() | Downloaded() | DownloadFailed():
                self._out_of_place(ward, message)
            case _:
                assert_never(message)

    def ended(self, ward: Ward, end: Ended) -> None:
        if ward is self._standby:
            self._standby = None
            if not self._closing:
                self._standby_again(time.monotonic() - ward.born)
        if (model := self._model.pop(ward, None)) is not None:
            end = self._freed(ward, model, end)
            del self.of[model], self._settings[model]
            self.lives.ledger.ended(ward)
            self._parks.ended(model, clean=end.code == 0)
            self.lives.worker_ended(model, end)

    def judged(self, ward: Ward, verdict: Verdict, reason: str) -> None:
        if (model := self._model.get(ward)) is not None:
            self.lives.worker_judged(model, verdict, reason)
        elif verdict is Verdict.HUNG:
            self._nursery.stop(ward, ladder.hung)

    def unkillable(self, ward: Ward) -> None:
        if (model := self._model.get(ward)) is not None:
            self.lives.worker_unkillable(model)

    def _out_of_place(self, ward: Ward, message: Message) -> None:
        log.error("not a worker's message %s", facts(role=ward.role, message=type(message).__name__))


def _alike(one: config.Model, other: config.Model) -> bool:
    """Whether the same is loaded in the same way, be it by another replica."""
    same = {"name": one.name, "pin": one.pin, "preload": one.preload}
    return one == msgspec.structs.replace(other, **same)


def _resolved(parking: config.Parking) -> config.Parking:
    """With "auto" as bytes: a quarter of what is free now, 8 GiB at most."""
    if parking.memory != "auto":
        return parking
    return msgspec.structs.replace(parking, memory=min(8 * 2**30, free_memory() // 4))
