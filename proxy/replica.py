"""One worker of a model, as this proxy sees it: how it is, the generations of its links, and how much it has to do."""

from __future__ import annotations

from proxy.generation import Generation, Lease
from supervisor import replicas
from supervisor.control import ModelStatus


class Replica:
    """Most models have one, which has the model's name. `current`: the generation on which requests go."""

    def __init__(self, status: ModelStatus) -> None:
        self.status = status
        self.generations: dict[int, Generation] = {}
        self.current: Generation | None = None

    @property
    def name(self) -> str:
        return self.status.name

    @property
    def number(self) -> int:
        """Which of its model's it is, from 1."""
        return replicas.number(self.name)

    @property
    def admits(self) -> bool:
        return self.current is not None and self.current.admits and not self.status.suspended

    @property
    def in_flight(self) -> int:
        return sum(len(generation.leases) for generation in self.generations.values())

    @property
    def slots(self) -> int:
        """Requests that it computes together."""
        return self.status.facts.slots if self.status.facts else 1

    @property
    def leases(self) -> int:
        """Requests that this proxy has in flight where new ones go."""
        return len(self.current.leases) if self.current is not None else 0

    @property
    def free(self) -> int:
        """Sequences that are left for new requests, as far as this proxy knows."""
        return max(0, self.slots - self.leases) if self.admits else 0

    @property
    def beyond(self) -> int:
        """Requests with a lease for which the worker has no sequence left."""
        return max(0, self.leases - self.slots)

    def waiting(self) -> list[Lease]:
        """Those of them that the worker has not begun, the newest last."""
        if self.current is None or not self.beyond:
            return []
        return [lease for lease in self.current.leases if not lease.stream.begun][-self.beyond :]
