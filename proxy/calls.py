"""A call: one client's request on its way through queue, link and worker, and, once, to the next generation.

The worker may die under a request which it has not begun; that request goes back to the queue, once. One that has
begun is never repeated: nobody knows what it did. RELIABILITY.md, 1.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

from proxy.errors import WorkerLost
from proxy.gate import Gate, Wait
from proxy.generation import Lease
from proxy.limits import Permit
from proxy.links import Ask
from worker.protocol import Accepted, Event


class Call:
    """Requests that one client sends to one model together. `queue_ms`, `load_ms`: None until the worker accepts.

    `kept`: for how many seconds the client wants the model kept after its last use, if it says so.
    """

    def __init__(
        self,
        gate: Gate,
        asks: Sequence[Ask],
        wait: Wait,
        kept: float | None = None,
        permit: Permit | None = None,
    ) -> None:
        self.gate, self.wait, self.kept, self._permit = gate, wait, kept, permit
        self.queue_ms: float | None = None
        self.load_ms: float | None = None
        self._asks = asks
        self._lease: Lease | None = None
        self._began = time.monotonic()

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        """The events of all requests, in order, in batches. Raises ApiError, ClientStalled.

        After a repetition Accepted comes once more.
        """
        for last in (False, True):
            async with await self.gate.acquire(self.wait) as self._lease:
                if self.kept is not None:
                    self._lease.generation.keep(self.kept)
                stream = self._lease.stream
                try:
                    stream.send(self._asks)
                    async for events in stream.batches():
                        self._note(events)
                        yield events
                    return
                except WorkerLost:
                    if last or stream.begun:
                        raise
                finally:
                    self._lease = None

    def index(self, event: Event) -> int:
        """Which of the requests an event belongs to, from 0."""
        assert self._lease is not None
        return self._lease.stream.index(event)

    def note(self) -> str:
        """What a client that hears nothing may be told: `queued 2`, `loading 0.42` or nothing."""
        return "" if self._lease else self.gate.position(self.wait)

    def _note(self, events: Sequence[Event]) -> None:
        """Measures the wait until the worker accepts, and counts what the key uses."""
        if self._permit is not None:
            self._permit.note(events)
        if self.queue_ms is None and any(isinstance(event, Accepted) for event in events):
            self.queue_ms = (time.monotonic() - self._began) * 1000
            self.load_ms = self.wait.load_ms
