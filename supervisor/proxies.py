"""The proxies: started at once, restarted for ever, told about every model."""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, assert_never

import msgspec

from supervisor import config, ladder, restart, roll
from supervisor.control import (
    Activity,
    AskFigures,
    AskRoll,
    Blamed,
    Busy,
    ConfigureProxy,
    Discarded,
    Downloaded,
    DownloadFailed,
    Drained,
    Entry,
    Fetched,
    Figures,
    Finding,
    FolderChanged,
    Inquired,
    Inquiry,
    KeepAlive,
    KeyUse,
    Known,
    LinkBroken,
    Listening,
    LoadFailed,
    Message,
    ModelCommand,
    ModelStatus,
    Planned,
    Pong,
    Process,
    Ready,
    Reconfigure,
    Reload,
    Reloaded,
    Report,
    Ring,
    Roll,
    Scanned,
    ShutDown,
    Shutdown,
    Stuck,
    ToRoot,
    Unwant,
    Want,
)
from supervisor.figures import Series
from supervisor.journal import Journal
from supervisor.ledger import Ledger
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.nursery import Ended, Nursery, Ward
from supervisor.process import StartFailed
from supervisor.timers import Timers

log = logging.getLogger("root")

ProxyMessage = Want | Unwant | Activity | KeepAlive | Drained | Busy | LinkBroken | ModelCommand

# The fifth death within a minute is the root's own. One that dies less often is back soon: nobody is served meanwhile.
_POLICY = config.Restart(window=60.0, max_deaths=4, stable_after=10.0, backoff_max=5.0)


class Models(Protocol):
    """What the proxies need of the models: their state, and somebody who listens."""

    ledger: Ledger
    journal: Journal

    def statuses(self) -> tuple[ModelStatus, ...]: ...

    def figures(self) -> list[Series]: ...

    def entries(self) -> tuple[Entry, ...]: ...

    def attach_all(self, proxy: Ward) -> None: ...

    def from_proxy(self, proxy: Ward, message: ProxyMessage) -> None: ...

    def proxy_gone(self, proxy: Ward) -> None: ...

    def proxy_died(self, proxy: Ward, end: Ended) -> None: ...


class Proxies:
    """Owner of the proxy processes. `failed` is called when one keeps dying; `listening` when the first serves."""

    def __init__(
        self,
        nursery: Nursery,
        timers: Timers,
        settings: config.Config,
        listeners: Sequence[socket.socket],
        *,
        listening: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self.running: dict[int, Ward] = {}
        self._nursery, self._timers, self._config = nursery, timers, settings
        self._listeners, self._listening, self._failed = listeners, listening, failed
        self._history: dict[int, restart.History] = {}
        self._serving: dict[Ward, float] = {}
        self._restarts: Counter[str] = Counter()  # by role
        self._born = time.monotonic()
        self._draw = random.Random()  # noqa: S311 - spreads restarts
        self._shutting_down = False
        self._key_uses: dict[tuple[str, int], int] = {}  # key, proxy → requests in flight
        self._rings: dict[str, int] = {}  # of the dead, too, until the next of that name: at most one for each role
        self.reload: Callable[[Callable[[Reloaded], None]], None]  # has the configuration read again
        self.models: Models

    def start(self, models: Models) -> None:
        """Starts them all; `models` hears them."""
        self.models = models
        for index in range(self._config.server.proxies):
            self._start(index)

    def broadcast(self, message: Message) -> None:
        for ward in self.running.values():
            self._nursery.send(ward, message)

    def send(self, ward: Ward, message: Message, fds: Sequence[int] = ()) -> None:
        self._nursery.send(ward, message, fds)

    def show_ring(self, source: str, fd: int) -> None:
        """Lets every proxy read what the process `source` logs, now and after its death; the caller keeps `fd`."""
        try:
            kept = os.dup(fd)
            if (old := self._rings.pop(source, None)) is not None:
                os.close(old)
            self._rings[source] = kept
            for ward in self.running.values():
                self._nursery.send(ward, Ring(source), [fd])
        except OSError as error:  # no descriptors left: a load matters more
            log.error("no ring for the proxies %s", facts(source=source, error=error.strerror))

    def reconfigure(self, settings: config.Config) -> None:
        """Tells them all; those that start later begin with it."""
        self._config = settings
        self.broadcast(Reconfigure(settings))

    def shut_down(self, deadline: float) -> None:
        """They stop accepting; what runs ends within `deadline` seconds."""
        self._shutting_down = True
        for index in range(self._config.server.proxies):
            self._timers.cancel(("proxy", index))
        self.broadcast(Shutdown(deadline))

    def stop(self) -> None:
        """Their work is done."""
        for ward in list(self.running.values()):
            self._nursery.stop(ward, ladder.polite)

    def _start(self, index: int) -> None:
        try:
            ward = self._nursery.start(self._config.server.proxy, f"proxy-{index}", self, self._listeners)
        except StartFailed as error:
            log.error("%s", error)
            self._again(index, 0.0, str(error))
            return
        self.show_ring(ward.role, ward.child.ring)
        self.running[index] = ward
        told = self.models.journal
        known = self.models.statuses(), self.models.entries(), told.boot, told.number, told.deaths
        self._nursery.send(ward, ConfigureProxy(index, self._config, *known))
        with suppress(OSError):  # no descriptors left: it serves all the same
            for source, fd in self._rings.items():
                self._nursery.send(ward, Ring(source), [fd])
        self._tell_key_uses(ward)
        self.models.attach_all(ward)

    def _again(self, index: int, lived: float, why: str) -> None:
        now = time.monotonic()
        self.models.ledger.count("llama_supervisor_proxy_restarts_total")
        self._restarts[f"proxy-{index}"] += 1
        history = self._history.get(index, restart.History())
        history, delay = restart.after_death(history, now, lived, _POLICY, self._draw)
        self._history[index] = history
        if delay is None:
            self._failed(f"proxy-{index} keeps dying: {why}")
            return
        if history.streak == 1:
            delay = 0.0  # the first restart is at once: nobody is served meanwhile
        self._timers.set(("proxy", index), now + delay, lambda: self._start(index))

    # -- Owner -------------------------------------------------------------------------------------------------

    def heard(self, ward: Ward, message: ToRoot, fds: list[int]) -> None:
        try:
            self._heard(ward, message, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _heard(self, ward: Ward, message: ToRoot, fds: Sequence[int]) -> None:
        match message:
            case Listening():
                self._serving[ward] = time.monotonic()
                self._listening()
            case Pong():
                pass
            case KeyUse():
                self._relay(ward, message)
            case Blamed():
                for other in self.running.values():
                    if other is not ward:
                        self.send(other, message)
            case ShutDown():
                self.models.proxy_gone(ward)  # counts as drained
            case Report(series):
                self.models.ledger.report(ward, series)
            case AskFigures(ticket):
                self.send(ward, Figures(ticket, self.models.figures()))
            case AskRoll(ticket):
                self.send(ward, Roll(ticket, self._roll()))
            case Inquiry():
                self._pass_on(ward, message)
            case Finding(origin=origin):
                if (asker := self.running.get(origin)) is not None:
                    self._pass_back(asker, message, fds)
            case Ready() | LoadFailed() | Known() | Scanned() | FolderChanged() | Stuck() | Discarded():
                self._out_of_place(ward, message)
            case Planned() | Fetched() | Downloaded() | DownloadFailed():
                self._out_of_place(ward, message)
            case Reload(ticket):
                self.reload(lambda outcome: self.send(ward, msgspec.structs.replace(outcome, ticket=ticket)))
            case Want() | Unwant() | Activity() | KeepAlive() | Drained() | Busy() | LinkBroken() | ModelCommand():
                self.models.from_proxy(ward, message)
            case _:
                assert_never(message)

    def _roll(self) -> list[Process]:
        """Every process, the root first."""
        now, wall, wards = time.monotonic(), time.time(), self._nursery.wards
        children = roll.call(wards, self.models.statuses(), self._restarts, now, wall)
        return [roll.root(self._born, now, wall), *children]

    def _out_of_place(self, ward: Ward, message: Message) -> None:
        log.error("not a proxy's message %s", facts(role=ward.role, message=type(message).__name__))

    def _relay(self, ward: Ward, use: KeyUse) -> None:
        """Every proxy knows what a key has used on the others."""
        self._key_uses[use.key, use.proxy] = use.running
        for other in self.running.values():
            if other is not ward:
                self._nursery.send(other, use)

    def _tell_key_uses(self, ward: Ward) -> None:
        for (key, proxy), running in self._key_uses.items():
            self._nursery.send(ward, KeyUse(key, proxy, running))

    def _pass_on(self, asker: Ward, inquiry: Inquiry) -> None:
        """One proxy's question goes to all others."""
        others = [ward for ward in self.running.values() if ward is not asker and ward in self._serving]
        origin = next(index for index, ward in self.running.items() if ward is asker)
        for ward in others:
            self.send(ward, Inquiry(inquiry.ticket, inquiry.payload, origin))
        self.send(asker, Inquired(inquiry.ticket, len(others)))

    def _pass_back(self, asker: Ward, finding: Finding, fds: Sequence[int]) -> None:
        try:
            self.send(asker, finding, fds)
        except OSError:  # no descriptors left: the asker finds that nothing came along
            self.send(asker, finding)

    def ended(self, ward: Ward, end: Ended) -> None:
        index = next(index for index, running in self.running.items() if running is ward)
        del self.running[index]
        for key, proxy in [place for place, running in self._key_uses.items() if place[1] == index and running]:
            self._relay(ward, KeyUse(key, proxy, 0))
        served = self._serving.pop(ward, None)
        self.models.proxy_gone(ward)
        self.models.ledger.ended(ward)
        if not self._shutting_down:
            self.models.proxy_died(ward, end)
            lived = time.monotonic() - served if served else 0.0
            self._again(index, lived, end.log_tail[-1] if end.log_tail else f"exit code {end.code}")

    def judged(self, ward: Ward, verdict: Verdict, reason: str) -> None:
        if verdict is Verdict.HUNG:
            self._nursery.stop(ward, ladder.hung)

    def unkillable(self, ward: Ward) -> None:
        pass  # it holds no model; the log has said so
