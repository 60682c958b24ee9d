"""All gates of this process together: how many requests wait at any of them, at most, and how long they may have to.

Several proxies share a bound evenly. Each counts only its own, so that nobody has to be asked; since no share is ever
exceeded, neither is the sum.
"""

from __future__ import annotations

import time
from typing import Protocol

from proxy import eta
from supervisor.config import Config
from supervisor.control import ModelStatus


class Waiting(Protocol):
    """What the hall needs of a gate."""

    status: ModelStatus

    @property
    def waiting(self) -> int: ...


class Hall:
    """`most`: of all models, `most_each`: of one."""

    def __init__(self, config: Config) -> None:
        self._gates: dict[str, Waiting] = {}
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Takes over other bounds; who waits already goes on waiting."""
        self.most_each = share(config.admission.max_queue, config.server.proxies)
        self.most = share(config.admission.max_queue_total, config.server.proxies)
        self._max_wait = config.admission.max_wait

    def enter(self, name: str, gate: Waiting) -> None:
        self._gates[name] = gate

    def leave(self, name: str) -> None:
        self._gates.pop(name, None)

    @property
    def waiting(self) -> int:
        """Requests that wait for any model, be it for its place or for one of its sequences."""
        return sum(gate.waiting for gate in self._gates.values())

    def ready_in(self, name: str, waited: float) -> float | None:
        """Seconds until the model is ready, as far as known. `waited`: how long the first in its queue has."""
        others = {other: gate.status for other, gate in self._gates.items()}
        return eta.ready_in(others[name], others, waited, self._max_wait, time.time()) if name in others else None


def share(bound: int, proxies: int) -> int:
    """One process's part of a bound on all, at least 1."""
    return max(1, bound // proxies)
