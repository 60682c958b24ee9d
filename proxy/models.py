"""What models there are and how they are, as the root says; names; and the root's orders to this proxy's share of them.

Models       every model by name, and what the root's messages mean for it
└── Gate         admission to one model, and who waits for it
    └── Generation   one link's leases
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.errors import ApiError, BadRequest, Unloaded, WorkerLost
from proxy.gate import UNLOADED, Gate
from proxy.generation import Generation, Report
from proxy.links import Link
from proxy.refusals import unloaded
from supervisor.config import Config, Key
from supervisor.control import (
    Answer,
    Attach,
    Drain,
    Drained,
    Entry,
    LinkBroken,
    Listed,
    Lost,
    Message,
    ModelChanged,
    ModelCommand,
    ModelStatus,
    Reopen,
    Rescan,
    Unlisted,
)
from supervisor.log import facts

LOST_GRACE = 1.0  # seconds between a link's end and the root's word on why; then the proxy speaks for itself
COMMAND_TIMEOUT = 10.0  # seconds for the root to answer a command
PULL_TIMEOUT = 60.0  # seconds for the hub to say what it has
RESCAN_TIMEOUT = 20.0  # seconds that a list waits for a scan; what comes later is in the next one

log = logging.getLogger("proxy.models")
Order = ModelChanged | Attach | Drain | Reopen | Lost | Answer | Listed | Unlisted


class Models:
    """The mirror of the root's view, and the only place where requests and the root's orders meet."""

    def __init__(
        self, config: Config, statuses: Iterable[ModelStatus], report: Report, entries: Iterable[Entry] = ()
    ) -> None:
        """`entries` is the catalog; what the configuration names is in it in any case."""
        self.config = config
        self.gates = {status.name: Gate(config, status, report) for status in statuses}
        self.entries = {name: Entry(model) for name, model in config.models.items()}
        self.entries |= {entry.model.name: entry for entry in entries}
        self._report = report
        self._names = _names(self.entries)
        self._tickets = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()
        self._stopping = False

    # -- for requests -------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return sum(gate.in_flight for gate in self.gates.values())

    def resolve(self, name: str, key: Key | None, *, fallback: bool = False) -> Gate:
        """The gate of a model by id or alias; absent or empty: the default or the only one. None sees every model.

        `fallback`: a name that no model has means the fallback model, if there is one.
        """
        if not name:
            name = self.config.admission.default_model or (next(iter(self.gates)) if len(self.gates) == 1 else "")
        if not name:
            raise BadRequest("model: required, as several models are configured", "model", "missing_model")
        for known in (name, self.config.admission.fallback_model if fallback else ""):
            gate = self.gates.get(self._names.get(known, known))
            if gate is not None and (key is None or key.sees(gate.name)):
                return gate
        raise ApiError("model_not_found", f'model "{name[:200]}" not found', param="model")

    async def command(self, verb: str, model: str, admin: bool) -> Answer:
        """Has the root "load", "unload", "pull" or "remove" a model; returns once it has decided. Raises ApiError.

        "pull" is decided when the hub has said what it has, "remove" when the files are gone.
        """
        ticket, within = next(self._tickets), self._patience(verb)
        try:
            answer = await self._asked(ticket, ModelCommand(ticket, verb, model, admin), within)
        except TimeoutError:
            raise ApiError("starting", f"the root did not answer within {within:g} s") from None
        if answer.error:
            raise ApiError(answer.error, answer.message or answer.error, model=answer.model or model)
        return answer

    def _patience(self, verb: str) -> float:
        """Seconds that a command may take."""
        limits = self.config.shutdown
        drain = limits.drain_timeout + limits.stop_timeout + limits.term_timeout + limits.kill_timeout
        return {"pull": PULL_TIMEOUT, "remove": drain + RESCAN_TIMEOUT}.get(verb, COMMAND_TIMEOUT)

    async def rescan(self) -> bool:
        """Has the root look for models again; whether that was done in time."""
        ticket = next(self._tickets)
        try:
            await self._asked(ticket, Rescan(ticket), RESCAN_TIMEOUT)
        except TimeoutError:
            return False
        return True

    # -- for the root's messages --------------------------------------------------------------------------------------

    def obey(self, order: Order, fds: list[int]) -> None:
        """Carries out one message of the root."""
        match order:
            case Answer():
                self._answer(order)
            case Listed():
                self._list(order)
            case Unlisted():
                self._unlist(order.model)
            case _:
                self._obey(order, fds)

    def _obey(self, order: ModelChanged | Attach | Drain | Reopen | Lost, fds: list[int]) -> None:
        """One that is about one model."""
        gate = self.gates.get(order.status.name if isinstance(order, ModelChanged) else order.model)
        if gate is None:
            log.error("a message about an unknown model %s", facts(message=order))
            for fd in fds:
                os.close(fd)
            return
        match order:
            case ModelChanged():
                gate.change(order.status)
            case Attach():
                self._attach(gate, order, fds)
            case Drain():
                self._drain(gate, order)
            case Reopen():
                self._reopen(gate, order)
            case Lost():
                self._lose(gate, order)

    def shut_down(self, deadline: float) -> None:
        """Refuses everybody from now on; what runs may go on for `deadline` seconds. Once more: the deadline is new."""
        self._stopping = True
        for gate in self.gates.values():
            gate.refuse(shutting_down)
        asyncio.get_running_loop().call_later(deadline, self._cut)

    async def emptied(self) -> None:
        """Returns when nothing is in flight after `shut_down`."""
        while self.in_flight:
            self._emptied.clear()
            await self._emptied.wait()

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _asked(self, ticket: int, message: Message, within: float) -> Answer:
        """Raises TimeoutError."""
        self._answers[ticket] = asyncio.get_running_loop().create_future()
        self._report(message)
        try:
            async with asyncio.timeout(within):
                return await self._answers[ticket]
        finally:
            del self._answers[ticket]

    def _list(self, order: Listed) -> None:
        for status in order.statuses:
            if status.name not in self.gates:
                self.gates[status.name] = Gate(self.config, status, self._report)
                if self._stopping:
                    self.gates[status.name].refuse(shutting_down)
        self.entries |= {entry.model.name: entry for entry in order.entries}
        self._names = _names(self.entries)

    def _unlist(self, name: str) -> None:
        self.entries.pop(name, None)
        self._names = _names(self.entries)
        if (gate := self.gates.pop(name, None)) is not None:
            gate.refuse(lambda: ApiError("model_not_found", f'model "{name}" is there no more', param="model"))

    def _answer(self, answer: Answer) -> None:
        future = self._answers.get(answer.ticket)
        if future is not None and not future.done():
            future.set_result(answer)

    def _attach(self, gate: Gate, order: Attach, fds: list[int]) -> None:
        if (old := gate.generations.get(order.generation)) is not None:
            old.lose(lambda: WorkerLost(gate.name, "link_replaced"))

        def ended(reason: str, broken: bool) -> None:
            self._link_ended(gate, generation, reason, broken)

        def ready() -> None:
            gate.serve()
            generation.report()

        link = Link(order.generation, ready, ended)
        generation = Generation(gate.name, link, self._release_report)
        gate.attach(generation)
        task = asyncio.get_running_loop().create_task(_connect(link, fds[0]))
        self._keep(task)

    def _drain(self, gate: Gate, order: Drain) -> None:
        generation = gate.generations.get(order.generation)
        if generation is None:
            self._report(Drained(order.model, order.generation))
        else:
            generation.drain(order)

    def _reopen(self, gate: Gate, order: Reopen) -> None:
        if generation := gate.generations.get(order.generation):
            generation.reopen()
            gate.serve()

    def _lose(self, gate: Gate, order: Lost) -> None:
        if generation := gate.generations.get(order.generation):
            log.info("lost %s", facts(model=gate.name, generation=order.generation, cause=order.cause))
            self._forget(gate, generation, order.cause, order.message)
        gate.lost(order)

    def _link_ended(self, gate: Gate, generation: Generation, reason: str, broken: bool) -> None:
        """The root learns of a death by itself, and why; only what it does not know of is reported."""
        if gate.generations.get(generation.number) is not generation:
            return
        if generation.closed and not generation.leases and not broken:
            self._forget(gate, generation, UNLOADED, "")  # drained, and the worker has gone
            return
        if broken:
            self._give_up(gate, generation, reason)
        else:
            asyncio.get_running_loop().call_later(LOST_GRACE, self._give_up, gate, generation, reason)

    def _give_up(self, gate: Gate, generation: Generation, reason: str) -> None:
        if gate.generations.get(generation.number) is generation:
            self._report(LinkBroken(gate.name, generation.number, reason))
            self._forget(gate, generation, "link_broken", reason)

    def _forget(self, gate: Gate, generation: Generation, cause: str, message: str) -> None:
        gate.generations.pop(generation.number, None)
        if gate.current is generation:
            gate.current = None
        generation.lose(lambda: _loss(gate, generation.number, cause, message))

    def _release_report(self, message: Any) -> None:
        self._report(message)
        self._emptied.set()

    def _cut(self) -> None:
        for gate in self.gates.values():
            for generation in gate.generations.values():
                generation.end(shutting_down)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _connect(link: Link, fd: int) -> None:
    try:
        await link.connect(fd)
    except OSError as error:
        link.connection_lost(error)


def _loss(gate: Gate, generation: int, cause: str, message: str) -> ApiError:
    """What the requests of a lost generation are told."""
    if cause == UNLOADED:
        return unloaded(gate.name, message)
    signal = gate.status.signal if gate.status.generation == generation else ""
    return WorkerLost(gate.name, cause, message, signal)


def _names(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Every id and alias → the id of its model. An id counts before an alias."""
    aliases = {alias: name for name, entry in entries.items() for alias in entry.model.aliases}
    return aliases | {name: name for name in entries}


def shutting_down() -> ApiError:
    return Unloaded("shutting_down", "the server is shutting down")
