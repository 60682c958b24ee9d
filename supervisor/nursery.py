"""The root's children: started, listened to, pinged, judged, brought to their end, reaped. Knows nothing of models.

Who a child is and what its messages mean is its owner's affair: `Proxies` or `Workers`.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from supervisor import config, ladder, liveness, process, recorder, resident
from supervisor.control import Closed, Message, Ping, Pong, Relog, Stop, ToRoot
from supervisor.ladder import Ladder, Rung
from supervisor.lease import LATE
from supervisor.lifecycle import signal_name
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.recorder import Record
from supervisor.resident import Memory
from supervisor.timers import Timers

log = logging.getLogger("root")
_LAST_WAIT = 2.0
_RUNS = ("R", "S")  # in no other state of the kernel's can a process write what it is at
_TAIL, _LONG_TAIL = 20, 200  # lines: what is shown of a death, and what its report keeps
_MESSAGES_AT_ONCE = 64  # per child and turn of the loop, so that a chatty child starves nobody


@dataclass(frozen=True, slots=True)
class Ended:
    """A child's end. What it logged and recorded was read before its memory was given back; `lived` is in seconds.

    `memory`: as it was at the last look, at most a ping before. `beyond`: its own limit that it exceeded, in words.
    """

    code: int
    log_tail: tuple[str, ...]
    stack: str
    pid: int = 0
    lived: float = 0.0
    phase: str = ""
    long_tail: tuple[str, ...] = ()
    record: Record = recorder.NOTHING
    memory: Memory | None = None
    beyond: str = ""


class Owner(Protocol):
    """What a child's owner is told."""

    def heard(self, ward: Ward, message: ToRoot, fds: list[int]) -> None: ...

    def ended(self, ward: Ward, end: Ended) -> None: ...

    def judged(self, ward: Ward, verdict: Verdict, reason: str) -> None: ...

    def unkillable(self, ward: Ward) -> None: ...


class Ward:
    """One child and what the root knows of it. Only the nursery changes it."""

    def __init__(self, child: process.Child, owner: Owner, now: float) -> None:
        self.child = child
        self.owner = owner
        self.born = now
        self.vitals = liveness.born(now)
        self.verdict = Verdict.HEALTHY
        self.ladder: Ladder | None = None
        self.memory: Memory | None = None
        self.unkillable = False  # SIGKILL did not end it: it is stuck in the kernel

    @property
    def role(self) -> str:
        return self.child.role

    @property
    def stopping(self) -> bool:
        return self.ladder is not None


class Nursery:
    """All children. `selector` data is a callable that handles readiness."""

    def __init__(self, selector: selectors.BaseSelector, timers: Timers, settings: config.Config) -> None:
        self.wards: set[Ward] = set()
        self._selector, self._timers, self._config = selector, timers, settings
        self._number = 0
        self._next_ping = time.monotonic()
        self._timers.set("ping", self._next_ping, self._ping)

    def reconfigure(self, settings: config.Config) -> None:
        changed, self._config = settings.log != self._config.log, settings
        for ward in self.wards if changed else ():
            self.send(ward, Relog(settings.log))

    def start(self, entry: str, role: str, owner: Owner, listeners: Sequence[socket.socket] = ()) -> Ward:
        """Starts a child for `owner`. Raises process.StartFailed."""
        ward = Ward(process.start(entry, role, listeners, self._config.log.form), owner, time.monotonic())
        self.wards.add(ward)
        self._selector.register(ward.child.channel, selectors.EVENT_READ, lambda events: self._ready(ward, events))
        self._selector.register(ward.child.pidfd, selectors.EVENT_READ, lambda _: self._reap(ward))
        self._say_alive(ward)  # its lease: the root may hang before the next round of pings
        log.info("started %s", facts(role=role, pid=ward.child.pid))
        return ward

    def send(self, ward: Ward, message: Message, fds: Sequence[int] = ()) -> None:
        """Sends, or keeps until the child reads. A child that is gone, or takes nothing for very long, gets nothing.

        Raises OSError if there are no descriptors left for copies of `fds`.
        """
        try:
            ward.child.channel.send(message, fds)
        except Closed:
            return  # its pidfd tells the rest; one that lives but never reads is judged by its silence
        self._watch(ward)

    def stop(self, ward: Ward, how: Callable[[config.Shutdown, float], Ladder]) -> None:
        """Begins to bring a child to its end. A harder way replaces a kinder one that is under way."""
        if ward.stopping and how is not ladder.hung:
            return
        ward.ladder = how(self._config.shutdown, time.monotonic())
        self._climb(ward)

    def hurry(self) -> None:
        """Those that were asked to stop are now told."""
        for ward in list(self.wards):
            self.stop(ward, ladder.hung)

    def kill_all(self) -> None:
        """The root's own last act: nobody is left, but for what the kernel holds."""
        for ward in self.wards:
            ward.child.signal(signal.SIGKILL)
        deadline = time.monotonic() + _LAST_WAIT
        for ward in self.wards:
            if ward.child.gone_within(max(0.0, deadline - time.monotonic())):
                ward.child.reap()
                ward.child.close()
            else:
                ward.unkillable = True
        self.wards = {ward for ward in self.wards if ward.unkillable}

    # -- the loop's callbacks ----------------------------------------------------------------------------------

    def _ready(self, ward: Ward, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(ward)
        if events & selectors.EVENT_READ:
            self._receive(ward)

    def _flush(self, ward: Ward) -> None:
        try:
            ward.child.channel.flush()
        except Closed:
            self._deaf(ward)
            return
        self._watch(ward)

    def _receive(self, ward: Ward) -> None:
        try:
            for _ in range(_MESSAGES_AT_ONCE):
                received = ward.child.channel.receive()
                if received is None:
                    return
                message, fds = received
                if isinstance(message, Pong):
                    self._alive(ward, message)
                ward.owner.heard(ward, message, fds)
        except Closed:
            self._deaf(ward)
        except msgspec.DecodeError as error:
            log.error("garbage on a control socket %s", facts(role=ward.role, pid=ward.child.pid, error=error))
            self._deaf(ward)
            self.stop(ward, ladder.hung)

    def _alive(self, ward: Ward, pong: Pong) -> None:
        paused = ward.verdict in (Verdict.SUSPENDED, Verdict.IN_KERNEL)
        ward.vitals = ward.vitals.heard(pong, time.monotonic(), paused=paused)

    def _deaf(self, ward: Ward) -> None:
        """Its end of the control socket is closed: it is dying, or will be judged by its silence."""
        if ward.child.channel.fileno() in self._selector.get_map():
            self._selector.unregister(ward.child.channel)

    def _watch(self, ward: Ward) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if ward.child.channel.crowded else 0)
        key = self._selector.get_map().get(ward.child.channel.fileno())
        if key is not None and key.events != wanted:
            self._selector.modify(ward.child.channel, wanted, key.data)

    def _reap(self, ward: Ward) -> None:
        code = ward.child.reap()
        self._receive(ward)  # its last words: the reason of a failed load stands there
        self._deaf(ward)
        self._selector.unregister(ward.child.pidfd)
        self._timers.cancel(ward)
        self.wards.discard(ward)
        lived = time.monotonic() - ward.born
        tail, record = ward.child.log_tail(_LONG_TAIL), ward.child.record()
        phase = record.phase or str(ward.vitals.last.phase)
        known = ward.child.stack_dump(), ward.child.pid, lived, phase, tail, record, ward.memory
        end = Ended(code, tail[-_TAIL:], *known)
        level = logging.INFO if code == 0 or ward.stopping else logging.WARNING
        named = {"role": ward.role, "pid": ward.child.pid, "code": code, "signal": signal_name(code)}
        log.log(level, "ended %s", facts(**named, lived=f"{lived:.1f}s"))
        if end.stack:
            log.warning("stacks of %s:\n%s", ward.role, end.stack.rstrip())
        ward.child.close()
        ward.owner.ended(ward, end)

    def _climb(self, ward: Ward) -> None:
        assert ward.ladder is not None
        ward.ladder, rung = ward.ladder.climb(time.monotonic())
        match rung:
            case Rung.ASK:
                self.send(ward, Stop(max(0.0, ward.ladder.due - time.monotonic())))
            case Rung.TERM:
                ward.child.signal(signal.SIGTERM)
            case Rung.DUMP:
                ward.child.signal(signal.SIGUSR1)
            case Rung.LINGER if ward.child.dumped or ward.child.kernel_state() not in _RUNS:
                self._climb(ward)
                return
            case Rung.KILL:
                ward.child.signal(signal.SIGKILL)
            case Rung.GIVE_UP:
                log.error("unkillable %s", facts(role=ward.role, pid=ward.child.pid))
                ward.unkillable = True
                ward.owner.unkillable(ward)
                return
        if rung not in (Rung.ASK, Rung.LINGER):
            log.warning("stopping %s", facts(role=ward.role, pid=ward.child.pid, rung=rung.name))
        self._timers.set(ward, ward.ladder.due, lambda: self._climb(ward))

    # -- pings -------------------------------------------------------------------------------------------------

    def _ping(self) -> None:
        now = time.monotonic()
        late = now - self._next_ping > LATE  # VM paused, overload: such a root cannot judge anybody
        self._next_ping = now + self._config.liveness.ping_interval
        self._timers.set("ping", self._next_ping, self._ping)
        self._number += 1
        for ward in list(self.wards):
            ward.memory = resident.look(ward.child.pid, ward.memory)
            if not ward.child.channel.pending:  # a full socket counts as a missed beat
                self._say_alive(ward)
            elif ward.child.channel.starved:
                self._flush(ward)  # there may be descriptors again
            if late:
                ward.vitals = ward.vitals.forgiven(now)
            elif not ward.stopping:
                self._judge(ward, now)

    def _say_alive(self, ward: Ward) -> None:
        self.send(ward, Ping(self._number, self._config.liveness.lease))

    def _judge(self, ward: Ward, now: float) -> None:
        verdict, reason = liveness.judge(ward.vitals, now, self._config.liveness, ward.child.kernel_state)
        if verdict is ward.verdict:
            return
        ward.verdict = verdict
        log.warning("judged %s", facts(role=ward.role, pid=ward.child.pid, verdict=verdict.name, reason=reason))
        ward.owner.judged(ward, verdict, reason)
