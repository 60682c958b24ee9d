"""What the root tells the proxies, numbered, and the last deaths. One order for all readers of events. API.md, 2.3."""

from __future__ import annotations

import os
from collections import defaultdict, deque

from supervisor import replicas
from supervisor.control import Death, Died, Entry, Listed, ModelChanged, ModelStatus, State, Unlisted
from supervisor.lifecycle import Model, signal_name
from supervisor.nursery import Ended

_KEPT = 10  # deaths of each model, and of the proxies together


class Journal:
    """`boot` names this run of the root; numbers grow by one with each thing that is told."""

    def __init__(self) -> None:
        self.boot = os.urandom(4).hex()
        self.number = 0
        self._deaths: dict[str, deque[Death]] = defaultdict(lambda: deque(maxlen=_KEPT))

    @property
    def deaths(self) -> tuple[Death, ...]:
        """Those that are remembered, oldest first."""
        return tuple(sorted((death for kept in self._deaths.values() for death in kept), key=lambda death: death.at))

    def changed(self, status: ModelStatus) -> ModelChanged:
        self.number += 1
        return ModelChanged(status, self.number)

    def listed(self, entries: tuple[Entry, ...], statuses: tuple[ModelStatus, ...] = (), reload: bool = True) -> Listed:
        self.number += 1
        return Listed(entries, statuses, reload, self.number)

    def unlisted(self, name: str) -> Unlisted:
        self.number += 1
        return Unlisted(name, self.number)

    def died(self, death: Death) -> Died:
        self.number += 1
        self._deaths[death.model].append(death)
        return Died(death, self.number)


def of_worker(before: Model, after: Model, end: Ended, lost: int, now: float, wall: float) -> Death | None:
    """The death of a model's worker; None if it was meant to go. `lost`: requests that it had begun."""
    if after.state not in (State.BACKOFF, State.FAILED):
        return None
    return Death(
        f"w:{after.name}",
        wall,
        after.cause,
        after.message,
        end.code,
        after.signal,
        model=replicas.base(after.name),
        generation=after.generation,
        pid=end.pid,
        uptime_s=round(end.lived, 3),
        phase=end.phase,
        requests_lost=lost,
        log_tail=end.log_tail,
        action="failed" if after.state is State.FAILED else "none" if before.state is State.DRAINING else "restart",
        retry_in_s=None if after.retry_at is None else round(after.retry_at - now, 3),
    )


def of_proxy(role: str, end: Ended, wall: float) -> Death:
    """The death of a proxy, which is always started again."""
    name = signal_name(end.code)
    cause = ("killed" if name in ("SIGKILL", "SIGTERM") else "crashed") if name else "exited"
    text = f"{role} was ended by {name}" if name else f"{role} exited with code {end.code}"
    return Death(
        role, wall, cause, text, end.code, name, pid=end.pid, uptime_s=round(end.lived, 3), log_tail=end.log_tail
    )
