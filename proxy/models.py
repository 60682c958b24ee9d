"""What models there are and how they are, as the root says; names; and the root's orders to this proxy's share of them.

Models       every model by name, and what the root's messages mean for it
├── Hall         what bounds all gates together
└── Gate         admission to one model, and who waits for it
    └── Replica      one of its workers
        └── Generation   one link's leases
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from proxy.errors import ApiError, BadRequest, Unloaded, WorkerLost
from proxy.gate import UNLOADED, Gate
from proxy.generation import Generation, Report
from proxy.hall import Hall
from proxy.links import Link
from proxy.refusals import unloaded
from proxy.replica import Replica
from proxy.tickets import Tickets
from supervisor import replicas
from supervisor.config import Config, Key
from supervisor.control import (
    Answer,
    Attach,
    Blamed,
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
    Reconfigure,
    Reload,
    Reloaded,
    Reopen,
    Unlisted,
)
from supervisor.log import facts

LOST_GRACE = 1.0  # seconds between a link's end and the root's word on why; then the proxy speaks for itself
COMMAND_TIMEOUT = 10.0  # seconds for the root to answer a command
PULL_TIMEOUT = 60.0  # seconds for the hub to say what it has
REMOVE_TIMEOUT = 20.0  # seconds for files to go, once the model has stopped
RELOAD_TIMEOUT = 30.0  # the same for another configuration; longer than the root takes at most

_NONE: Mapping[str, Any] = {}

log = logging.getLogger("proxy.models")
Order = ModelChanged | Attach | Drain | Reopen | Lost | Answer | Listed | Unlisted | Reconfigure | Reloaded | Blamed


class Models:
    """The mirror of the root's view, and the only place where requests and the root's orders meet."""

    def __init__(
        self, config: Config, statuses: Iterable[ModelStatus], report: Report, entries: Iterable[Entry] = ()
    ) -> None:
        """`entries` is the catalog; what the configuration names is in it in any case.

        `shown` are the entries of all ids, variants' among them; `names` leads from every id and alias to an id.
        """
        self.config = config
        self.gates: dict[str, Gate] = {}
        self.hall = Hall(config)
        self.entries = {name: Entry(model) for name, model in config.models.items()}
        self.entries |= {entry.model.name: entry for entry in entries}
        self._report = report
        self._renew()
        self._tickets = itertools.count(1)
        self._reloads: Tickets[Reloaded] = Tickets(report)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()
        self._stopping = False
        for status in statuses:
            self._open(status)

    # -- for requests -------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return sum(gate.in_flight for gate in self.gates.values())

    def listed(self, key: Key | None) -> list[tuple[str, Gate]]:
        """Every id that the key may see, variants' too, in order, each with the gate of its model."""
        found = ((id, self._gate(id)) for id in sorted(self.shown) if key is None or key.sees(id))
        return [(id, gate) for id, gate in found if gate is not None]

    def faces(self, model: str) -> list[str]:
        """The ids under which a model is known: its own, and those of its variants."""
        return [model, *sorted(id for id, base in self._bases.items() if base == model)]

    def resolve(self, name: str, key: Key | None, *, fallback: bool = False) -> Gate:
        """The gate of what `find` finds."""
        return self.find(name, key, fallback=fallback)[1]

    def find(self, name: str, key: Key | None, *, fallback: bool = False) -> tuple[str, Gate]:
        """Id and gate of a model or a variant, by id or alias; absent or empty: the default, or the only model.

        No key sees everything. `fallback`: a name that no model has means the fallback model, if there is one.
        """
        if not name:
            name = self.config.admission.default_model or (next(iter(self.gates)) if len(self.gates) == 1 else "")
        if not name:
            raise BadRequest("model: required, as several models are configured", "model", "missing_model")
        for known in (name, self.config.admission.fallback_model if fallback else ""):
            id = self.names.get(known, known)
            gate = self._gate(id)
            if gate is not None and (key is None or key.sees(id)):
                return id, gate
        raise ApiError("model_not_found", f'model "{name[:200]}" not found', param="model")

    async def command(self, verb: str, model: str, admin: bool, overrides: Mapping[str, Any] = _NONE) -> Answer:
        """Has the root "load", "unload", "pull" or "remove" a model; returns once it has decided. Raises ApiError.

        "pull" is decided when the hub has said what it has, "remove" when the files are gone.
        """
        ticket, within = next(self._tickets), self._patience(verb)
        try:
            answer = await self._asked(ticket, ModelCommand(ticket, verb, model, admin, dict(overrides)), within)
        except TimeoutError:
            raise ApiError("starting", f"the root did not answer within {within:g} s") from None
        if answer.error:
            raise ApiError(answer.error, answer.message or answer.error, model=answer.model or model)
        return answer

    def _patience(self, verb: str) -> float:
        """Seconds that a command may take."""
        limits = self.config.shutdown
        drain = limits.drain_timeout + limits.stop_timeout + limits.term_timeout + limits.kill_timeout
        return {"pull": PULL_TIMEOUT, "remove": drain + REMOVE_TIMEOUT}.get(verb, COMMAND_TIMEOUT)

    async def reload(self) -> Reloaded:
        """Has the root read its configuration again. Raises ApiError if it does not answer."""
        try:
            return await self._reloads.ask(Reload, RELOAD_TIMEOUT)
        except TimeoutError:
            raise ApiError("starting", f"the root did not answer within {RELOAD_TIMEOUT:g} s") from None

    # -- for the root's messages --------------------------------------------------------------------------------------

    def obey(self, order: Order, fds: list[int]) -> None:
        """Carries out one message of the root."""
        match order:
            case Answer():
                self._answer(order)
            case Reloaded():
                self._reloads.answer(order.ticket, order)
            case Reconfigure():
                self._reconfigure(order.config)
            case Listed():
                self._list(order)
            case Unlisted():
                self._unlist(order.model)
            case Blamed(model, digest):
                if (gate := self.gates.get(model)) is not None:
                    gate.quarantine.heard(digest)
            case _:
                self._obey(order, fds)

    def _obey(self, order: ModelChanged | Attach | Drain | Reopen | Lost, fds: list[int]) -> None:
        """One that is about one model's replica."""
        name = order.status.name if isinstance(order, ModelChanged) else order.model
        gate = self.gates.get(replicas.base(name))
        replica = gate.replicas.get(name) if gate else None
        if gate is None or replica is None:
            log.error("a message about an unknown model %s", facts(message=order))
            for fd in fds:
                os.close(fd)
            return
        match order:
            case ModelChanged():
                gate.change(order.status)
            case Attach():
                self._attach(gate, replica, order, fds)
            case Drain():
                self._drain(replica, order)
            case Reopen():
                self._reopen(gate, replica, order)
            case Lost():
                self._lose(gate, replica, order)

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

    def _gate(self, id: str) -> Gate | None:
        return self.gates.get(self._bases.get(id, id))

    def _reconfigure(self, config: Config) -> None:
        self.config = config
        self.hall.reconfigure(config)
        for gate in self.gates.values():
            gate.reconfigure(config)
        self._renew()

    def _renew(self) -> None:
        """After a change of what there is: variants of models that are there, and what every name leads to."""
        found = {name: own for name, own in self.config.variants.items() if own.base in self.entries}
        found = {name: own for name, own in found.items() if name not in self.entries}
        self._bases = {name: own.base for name, own in found.items()}
        self.shown = dict(self.entries)
        for name, own in found.items():
            base = self.entries[own.base]
            self.shown[name] = msgspec.structs.replace(base, model=base.model.variant(name, own))
        self.names = _names(self.shown)

    def _list(self, order: Listed) -> None:
        for status in order.statuses:
            self._open(status)
            if self._stopping:
                self.gates[replicas.base(status.name)].refuse(shutting_down)
        self.entries |= {entry.model.name: entry for entry in order.entries}
        self._renew()

    def _open(self, status: ModelStatus) -> None:
        """A model, or one more of its replicas; nothing if it is known."""
        name = replicas.base(status.name)
        if (gate := self.gates.get(name)) is None:
            self.gates[name] = gate = Gate(self.config, status, self._report, self.hall)
            self.hall.enter(name, gate)
        elif status.name not in gate.replicas:
            gate.open(status)

    def _unlist(self, name: str) -> None:
        if not replicas.first(name):
            if (gate := self.gates.get(replicas.base(name))) is not None:
                gate.close(name)
            return
        self.hall.leave(name)
        self.entries.pop(name, None)
        self._renew()
        if (gate := self.gates.pop(name, None)) is not None:
            gate.refuse(lambda: ApiError("model_not_found", f'model "{name}" is there no more', param="model"))

    def _answer(self, answer: Answer) -> None:
        future = self._answers.get(answer.ticket)
        if future is not None and not future.done():
            future.set_result(answer)

    def _attach(self, gate: Gate, replica: Replica, order: Attach, fds: list[int]) -> None:
        if not fds:  # it could not be taken: this process has no descriptors left
            log.error("no descriptor for a link %s", facts(model=order.model))
            self._report(LinkBroken(order.model, order.generation, "no descriptors left", blameless=True))
            return
        if (old := replica.generations.get(order.generation)) is not None:
            old.lose(lambda: WorkerLost(gate.name, "link_replaced"))

        def ended(reason: str, broken: bool) -> None:
            self._link_ended(replica, generation, reason, broken)

        def ready() -> None:
            gate.serve()
            gate.spread()
            generation.report()

        link = Link(order.generation, ready, ended)
        generation = Generation(replica.name, link, self._release_report, gate.spread)
        gate.attach(generation)
        task = asyncio.get_running_loop().create_task(_connect(link, fds[0]))
        self._keep(task)

    def _drain(self, replica: Replica, order: Drain) -> None:
        generation = replica.generations.get(order.generation)
        if generation is None:
            self._report(Drained(order.model, order.generation))
        else:
            generation.drain(order)

    def _reopen(self, gate: Gate, replica: Replica, order: Reopen) -> None:
        if generation := replica.generations.get(order.generation):
            generation.reopen()
            gate.serve()

    def _lose(self, gate: Gate, replica: Replica, order: Lost) -> None:
        if generation := replica.generations.get(order.generation):
            log.info("lost %s", facts(model=replica.name, generation=order.generation, cause=order.cause))
            self._forget(replica, generation, order.cause, order.message)
        gate.lost(order)

    def _link_ended(self, replica: Replica, generation: Generation, reason: str, broken: bool) -> None:
        """The root learns of a death by itself, and why; only what it does not know of is reported."""
        if replica.generations.get(generation.number) is not generation:
            return
        if generation.closed and not generation.leases and not broken:
            self._forget(replica, generation, UNLOADED, "")  # drained, and the worker has gone
            return
        if broken:
            self._give_up(replica, generation, reason)
        else:
            asyncio.get_running_loop().call_later(LOST_GRACE, self._give_up, replica, generation, reason)

    def _give_up(self, replica: Replica, generation: Generation, reason: str) -> None:
        if replica.generations.get(generation.number) is generation:
            self._report(LinkBroken(replica.name, generation.number, reason))
            self._forget(replica, generation, "link_broken", reason)

    def _forget(self, replica: Replica, generation: Generation, cause: str, message: str) -> None:
        replica.generations.pop(generation.number, None)
        if replica.current is generation:
            replica.current = None
        generation.lose(lambda: _loss(replica, generation.number, cause, message))

    def _release_report(self, message: Any) -> None:
        self._report(message)
        self._emptied.set()

    def _cut(self) -> None:
        for gate in self.gates.values():
            for replica in gate.replicas.values():
                for generation in replica.generations.values():
                    generation.end(shutting_down)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _connect(link: Link, fd: int) -> None:
    try:
        await link.connect(fd)
    except OSError as error:
        link.connection_lost(error)


def _loss(replica: Replica, generation: int, cause: str, message: str) -> ApiError:
    """What the requests of a lost generation are told."""
    model = replicas.base(replica.name)
    if cause == UNLOADED:
        return unloaded(model, message)
    signal = replica.status.signal if replica.status.generation == generation else ""
    return WorkerLost(model, cause, message, signal)


def _names(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Every id and alias → the id of its model. An id counts before an alias."""
    aliases = {alias: name for name, entry in entries.items() for alias in entry.model.aliases}
    return aliases | {name: name for name in entries}


def shutting_down() -> ApiError:
    return Unloaded("shutting_down", "the server is shutting down")
