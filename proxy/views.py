"""What this process, and the others through it, can tell of requests, queues and figures; it changes nothing."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any, TypeVar, assert_never

import msgspec

from proxy.activity import Activity, Row, Viewer
from proxy.conversations import Conversations
from proxy.errors import ApiError
from proxy.models import Models
from proxy.peers import (
    AskCancel,
    AskDrop,
    AskEnded,
    AskKept,
    AskQueues,
    AskRunning,
    AskStream,
    Peers,
    Question,
    Send,
)
from proxy.resumption import Resumption
from proxy.tally import Tally
from proxy.tickets import Tickets
from supervisor.control import AskFigures, AskRoll, Figures, Finding, Inquired, Inquiry, Process, Report, Roll
from supervisor.figures import Series

_ROOT_PATIENCE = 5.0  # seconds
A = TypeVar("A")
_REPORTS = 1.0  # seconds between two reports to the root, at least


class Queue(msgspec.Struct, frozen=True):
    """One process's requests of one model."""

    model: str
    in_flight: int
    queued: int
    oldest_wait_ms: float


class Views:
    """One per process."""

    def __init__(self, models: Models, send: Send) -> None:
        self.activity, self.tally = Activity(), Tally()
        self.resumption = Resumption(Conversations(models.config.resume))
        self._models, self._send = models, send
        self._figures: Tickets[list[Series]] = Tickets(send)
        self._rolls: Tickets[list[Process]] = Tickets(send)
        self._peers = Peers(send, models.config.server.proxies == 1, self._answer)
        self.resumption.peers = self._peers
        self._reported: tuple[float, list[Series]] = (0.0, [])  # when (monotonic), and what

    # -- for routes -------------------------------------------------------------------------------------------------

    async def running(self, viewer: Viewer) -> list[Row]:
        """Requests that run in any process, oldest first."""
        return _sorted(await self._peers.ask(AskRunning(viewer), list[Row]))

    async def ended(self, viewer: Viewer) -> list[Row]:
        """The last requests of all processes that have ended, oldest first."""
        return _sorted(await self._peers.ask(AskEnded(viewer), list[Row]))

    async def queues(self) -> dict[str, Queue]:
        """Of every model, over all processes."""
        found: dict[str, Queue] = {}
        for part in await self._peers.ask(AskQueues(), list[Queue]):
            for queue in part:
                found[queue.model] = _added(found[queue.model], queue) if queue.model in found else queue
        return found

    async def cancel(self, id: str, viewer: Viewer) -> bool:
        """Ends a request, wherever it runs; False if the viewer has none of this id."""
        return any(await self._peers.ask(AskCancel(id, viewer), bool))

    async def figures(self) -> list[Series]:
        """What all processes have counted, this one's up to now. Raises ApiError."""
        self._report(time.monotonic(), self.tally.series(self._models.gates.values()))
        return await _of_root(self._figures.ask(AskFigures, _ROOT_PATIENCE))

    async def processes(self) -> list[Process]:
        """Every process of the tree. Raises ApiError."""
        return await _of_root(self._rolls.ask(AskRoll, _ROOT_PATIENCE))

    # -- for the process --------------------------------------------------------------------------------------------

    def obey(self, message: Figures | Roll | Inquiry | Inquired | Finding, fds: list[int]) -> None:
        if isinstance(message, Figures):
            self._figures.answer(message.ticket, message.series)
        elif isinstance(message, Roll):
            self._rolls.answer(message.ticket, message.processes)
        else:
            self._peers.obey(message, fds)

    def tick(self) -> None:
        """About once a second, or more often: reports what was counted, if it is time."""
        now = time.monotonic()
        if now < self._reported[0] + _REPORTS:
            return
        found = self.tally.series(self._models.gates.values())
        if found != self._reported[1] and (self._reported[1] or any(each.values[0] for each in found)):
            self._report(now, found)

    def _report(self, now: float, found: list[Series]) -> None:
        self._send(Report(found))
        self._reported = (now, found)

    def _answer(self, question: Question) -> Any:
        match question:
            case AskRunning(viewer):
                return list(self.activity.running(viewer))
            case AskEnded(viewer):
                return list(self.activity.ended(viewer))
            case AskQueues():
                gates = self._models.gates.values()
                return [Queue(gate.name, gate.in_flight, gate.queued, gate.oldest_wait * 1000) for gate in gates]
            case AskCancel(id, viewer):
                return self.activity.cancel(id, viewer)
            case AskKept() | AskDrop() | AskStream():
                return self.resumption.answer(question)
            case _:
                assert_never(question)


async def _of_root(answer: Awaitable[A]) -> A:
    """Raises ApiError."""
    try:
        return await answer
    except TimeoutError:
        raise ApiError("starting", f"the root did not answer within {_ROOT_PATIENCE:g} s") from None


def _sorted(parts: list[list[Row]]) -> list[Row]:
    return sorted((row for part in parts for row in part), key=lambda row: row.since)


def _added(one: Queue, other: Queue) -> Queue:
    oldest = max(one.oldest_wait_ms, other.oldest_wait_ms)
    return Queue(one.model, one.in_flight + other.in_flight, one.queued + other.queued, oldest)
