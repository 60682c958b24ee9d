"""One generation of a model's worker, as this proxy sees it: who is in flight, and whether it admits.

The root decides when a generation drains and reopens; here it is carried out, and the truth about it is reported.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType

from proxy.errors import Unloaded
from proxy.links import Link, Stream
from supervisor import replicas
from supervisor.control import Activity, Busy, Drain, Drained, KeepAlive, Message

Report = Callable[[Message], None]  # sends a message to the root


class Lease:
    """A request's hold on a generation, an async context manager: while it lasts, the model is not taken away."""

    def __init__(self, generation: Generation, stream: Stream) -> None:
        self.generation, self.stream = generation, stream

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        self.stream.close()
        self.generation.release(self)


class Moved(Exception):
    """The request has waited in a worker, and nothing of it has begun: it goes to another replica of the model."""


def _nothing() -> None:
    pass


class Generation:
    """Counts the leases of one link, and answers the root's drains. `last_used`, a Unix time: its last lease's end.

    `model` is the replica's name; `freed` is called when a lease has ended.
    """

    def __init__(self, model: str, link: Link, report: Report, freed: Callable[[], None] = _nothing) -> None:
        self.model, self.link, self._freed = model, link, freed
        self.leases: dict[Lease, None] = {}  # the oldest first
        self.closed = False  # admits nobody: draining, drained or gone
        self.last_used = time.time()
        self._report = report
        self._drain: Drain | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def number(self) -> int:
        return self.link.generation

    @property
    def admits(self) -> bool:
        return not self.closed and self.link.admits

    def admit(self, limit: int, stalled: Callable[[], None]) -> Lease:
        """A lease with a stream of at most `limit` bytes of backlog; `stalled` is called past it."""
        assert self.admits
        lease = Lease(self, Stream(self.link, limit, stalled))
        self.leases[lease] = None
        if len(self.leases) == 1:
            self._report(Activity(self.model, self.number, 1))
        return lease

    def keep(self, seconds: float) -> None:
        """A client wants the model kept for so long after its last use; negative: for ever."""
        self._report(KeepAlive(self.model, self.number, seconds))

    def report(self) -> None:
        """Tells the root, if so, that nobody is in flight: until then it takes a model that was waited for as busy."""
        if not self.leases:
            self._report(Activity(self.model, self.number, 0))

    def release(self, lease: Lease) -> None:
        if lease not in self.leases:
            return
        del self.leases[lease]
        self.last_used = time.time()
        self.report()
        if not self.leases:
            self._answer_drain()
        self._freed()

    def drain(self, order: Drain) -> None:
        """Stops admission; Drained follows when nothing is in flight, or Busy at once if only an idle one was asked."""
        if order.if_idle and self.leases:
            self._report(Busy(self.model, self.number))
            return
        self._stop_clock()
        self.closed, self._drain = True, order
        if order.deadline is not None and self.leases:
            self._deadline = asyncio.get_running_loop().call_later(order.deadline, self._expire, order.reason)
        if not self.leases:
            self._answer_drain()

    def reopen(self) -> None:
        """Withdraws the drain."""
        self._stop_clock()
        self.closed, self._drain = False, None

    def end(self, error: Callable[[], Exception]) -> None:
        """Ends whatever is in flight with an error; each reader gets its own instance.

        The leases end here, not when their clients have read the error: a client that does not read delays no drain.
        """
        for lease in tuple(self.leases):
            lease.stream.fail(error())
            lease.release()

    def lose(self, error: Callable[[], Exception]) -> None:
        """The worker is gone or given up: nobody is admitted any more, and what is in flight ends."""
        self._stop_clock()
        self.closed = True
        self.end(error)
        self.link.drop()

    def _expire(self, reason: str) -> None:
        model = replicas.base(self.model)
        message = f"{model} was unloaded before this request was done ({reason})"
        self.end(lambda: Unloaded("model_unloaded", message, reason=reason, model=model))

    def _answer_drain(self) -> None:
        if self._drain is not None:
            self._stop_clock()
            self._drain = None
            self._report(Drained(self.model, self.number))

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
