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
from collections.abc import Iterable
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
    LinkBroken,
    Lost,
    ModelChanged,
    ModelCommand,
    ModelStatus,
    Reopen,
)
from supervisor.log import facts

LOST_GRACE = 1.0  # seconds between a link's end and the root's word on why; then the proxy speaks for itself
COMMAND_TIMEOUT = 10.0  # seconds for the root to answer a command

log = logging.getLogger("proxy.models")
Order = ModelChanged | Attach | Drain | Reopen | Lost | Answer


class Models:
    """The mirror of the root's view, and the only place where requests and the root's orders meet."""

    def __init__(self, config: Config, statuses: Iterable[ModelStatus], report: Report) -> None:
        self.config = config
        self.gates = {status.name: Gate(config, status, report) for status in statuses}
        self.created = {name: _modified(model.path) for name, model in config.models.items()}
        self._report = report
        self._names = config.names
        self._tickets = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()
        self._stopping = False

    # -- for requests -------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return sum(gate.in_flight for gate in self.gates.values())

    def resolve(self, name: str, key: Key | None) -> Gate:
        """The gate of a model by id or alias; absent or empty: the default or the only one. None sees every model."""
        if not name:
            name = self.config.admission.default_model or (next(iter(self.gates)) if len(self.gates) == 1 else "")
        if not name:
            raise BadRequest("model: required, as several models are configured", "model", "missing_model")
        gate = self.gates.get(self._names.get(name, name))
        if gate is None or (key is not None and not key.sees(gate.name)):
            raise ApiError("model_not_found", f'model "{name[:200]}" not found', param="model")
        return gate

    async def command(self, verb: str, model: str, admin: bool) -> Answer:
        """Has the root "load" or "unload" a model; returns once it has decided. Raises ApiError."""
        ticket = next(self._tickets)
        self._answers[ticket] = asyncio.get_running_loop().create_future()
        self._report(ModelCommand(ticket, verb, model, admin))
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                answer = await self._answers[ticket]
        except TimeoutError:
            raise ApiError("starting", f"the root did not answer within {COMMAND_TIMEOUT:g} s") from None
        finally:
            del self._answers[ticket]
        if answer.error:
            raise ApiError(answer.error, answer.message or answer.error, model=model)
        return answer

    # -- for the root's messages --------------------------------------------------------------------------------------

    def obey(self, order: Order, fds: list[int]) -> None:
        """Carries out one message of the root."""
        if isinstance(order, Answer):
            self._answer(order)
            return
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


def _modified(path: str) -> int:
    """A file's modification time as Unix seconds, 0 if there is none."""
    try:
        return int(os.stat(path).st_mtime) if path else 0
    except OSError:
        return 0


def shutting_down() -> ApiError:
    return Unloaded("shutting_down", "the server is shutting down")
