"""A call: one client's request on its way through queue, link and worker, and, once, to the next generation.

The worker may die under a request which it has not begun; that request goes back to the queue, once. One that has
begun is never repeated: nobody knows what it did. RELIABILITY.md, 1. Where a model has several workers, a request that
waits in one may go to another that has a place.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec.structs import replace

from proxy.affinity import trail
from proxy.dialects.results import Counts
from proxy.errors import ApiError, WorkerLost
from proxy.gate import Gate, Wait
from proxy.generation import Lease, Moved
from proxy.limits import Permit
from proxy.links import Ask
from proxy.quarantine import CRASHES
from supervisor.control import State
from worker.protocol import (
    Accepted,
    CallDelta,
    CallStart,
    Delta,
    Event,
    Finished,
    Generate,
    Progress,
    Reasoning,
    Started,
)

_OUTPUT = (Delta, Reasoning, CallStart, CallDelta)


class Answer(Protocol):
    """What is known of an answer while it is being made."""

    @property
    def completion_id(self) -> str: ...

    @property
    def counts(self) -> Counts: ...


class Call:
    """Requests that one client sends to one model together.

    `queue_ms`, `load_ms`: None until the worker accepts; `started_ms` until it has a sequence; `first_ms` until the
    first output. All count from the call's beginning. `kept`: for how many seconds the client wants the model kept
    after its last use, if it says so. `model`: the id that answers, a variant's or the gate's.
    """

    def __init__(
        self,
        gate: Gate,
        asks: Sequence[Ask],
        wait: Wait,
        kept: float | None = None,
        permit: Permit | None = None,
        model: str = "",
    ) -> None:
        self.gate, self.wait, self.kept, self._permit = gate, wait, kept, permit
        self.model = model or gate.name
        self.queue_ms: float | None = None
        self.load_ms: float | None = None
        self.started_ms: float | None = None
        self.first_ms: float | None = None
        self.answer: Answer | None = None
        self._asks = [_progressing(ask) for ask in asks]
        self._tells_progress = any(isinstance(ask, Generate) and ask.return_progress for ask in asks)
        self._processed: dict[int, int] = {}  # by request: tokens of its prompt, cached ones included
        self._lease: Lease | None = None
        self._began = time.monotonic()

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        """The events of all requests, in order, in batches. Raises ApiError, ClientStalled.

        After a repetition Accepted comes once more.
        """
        self.gate.quarantine.check(self._asks)
        self.wait.trail = trail(self._asks) if self.gate.several else ()
        self.wait.slot = next((ask.slot for ask in self._asks if isinstance(ask, Generate)), -1)
        last = False
        while True:
            if self._permit is not None:
                self._permit.anew()
            async with await self.gate.acquire(self.wait) as self._lease:
                if self.kept is not None:
                    self._lease.generation.keep(self.kept)
                stream = self._lease.stream
                try:
                    stream.send(self._asks)
                    async for events in stream.batches():
                        if self._permit is not None:
                            self._permit.note(events)
                        if self.first_ms is None:
                            self._note(events)
                            if not self._tells_progress:
                                events = [event for event in events if not isinstance(event, Progress)]
                        yield events
                    self.gate.quarantine.clear(self._asks)
                    return
                except WorkerLost as lost:
                    if stream.begun and lost.fields["cause"] in CRASHES:
                        self.gate.quarantine.blame(self._asks)
                    if last or stream.begun:
                        raise
                    last = True
                except Moved:
                    pass
                finally:
                    self._lease = None

    def end_reasoning(self) -> None:
        """Tells the worker so; nothing if it does not run yet."""
        if self._lease is not None:
            self._lease.stream.end_reasoning()

    def index(self, event: Event) -> int:
        """Which of the requests an event belongs to, from 0."""
        assert self._lease is not None
        return self._lease.stream.index(event)

    def note(self) -> str:
        """What a client that hears nothing may be told: `queued 2`, `loading 0.42` or nothing."""
        return "" if self._lease else self.gate.position(self.wait)

    def cancel(self, error: ApiError) -> bool:
        """Ends it with this error, wherever it is; False if it has ended already."""
        if self._lease is None:
            return self.gate.dismiss(self.wait, error)
        self._lease.stream.fail(error)
        self._lease.release()  # now, and not when a slow client has read the error
        return True

    @property
    def state(self) -> str:
        """queued, loading, prefill or generating."""
        if self.first_ms is not None:
            return "generating"
        if self.started_ms is not None:
            return "prefill"
        return "loading" if self._lease is None and self.gate.status.state is State.LOADING else "queued"

    @property
    def processed(self) -> int | None:
        """Tokens of the prompt that are in the KV cache by now; None: not known yet."""
        return sum(self._processed.values()) if self._processed else None

    def _note(self, events: Sequence[Event]) -> None:
        """Measures how long each stage took to come."""
        now = (time.monotonic() - self._began) * 1000
        for event in events:
            if isinstance(event, Accepted) and self.queue_ms is None:
                self.queue_ms, self.load_ms = now, self.wait.load_ms
            elif isinstance(event, Started) and self.started_ms is None:
                self.started_ms = now
                self._processed[event.id] = event.cached
            elif isinstance(event, Progress):
                self._processed[event.id] = event.processed
            elif isinstance(event, _OUTPUT) and self.first_ms is None:
                self.first_ms = now
            elif isinstance(event, Finished) and self.first_ms is not None:  # its text came in one piece
                self.first_ms = max(now - event.timings.predicted_ms, self.started_ms or 0.0)


def _progressing(ask: Ask) -> Ask:
    """The request, told to report on its prompt: whoever looks at it sees how far it is."""
    return replace(ask, return_progress=True) if isinstance(ask, Generate) else ask
