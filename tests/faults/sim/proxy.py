"""False proxies: what the messages of supervisor.control oblige a proxy to, without HTTP. See proxy/gate.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from supervisor import replicas
from supervisor.control import (
    Activity,
    Attach,
    Busy,
    Drain,
    Drained,
    LinkBroken,
    Listed,
    Lost,
    Message,
    ModelChanged,
    ModelStatus,
    Reopen,
    ShutDown,
    Shutdown,
    State,
    Unlisted,
    Unwant,
    Want,
)
from tests.faults.sim.agenda import Agenda, Violation

_HOLD = 5.0  # seconds of back-off that are worth a wait
_GRACE = 1.0  # between a link's end and the root's word on why


@dataclass(slots=True, eq=False)
class Request:
    """One client's request; `ended` says how, once."""

    number: int
    model: str
    service: float
    since: float
    ended: str = ""


@dataclass(slots=True, eq=False)
class Generation:
    number: int
    leases: set[Request] = field(default_factory=set)
    closed: bool = False
    up: bool = True
    drain: Drain | None = None


class Replica:
    """One worker of a model at one proxy."""

    def __init__(self, status: ModelStatus) -> None:
        self.status = status
        self.generations: dict[int, Generation] = {}
        self.current: Generation | None = None

    @property
    def admits(self) -> bool:
        current = self.current
        return current is not None and current.up and not current.closed and not self.status.suspended

    @property
    def leases(self) -> int:
        return len(self.current.leases) if self.current else 0


class Gate:
    """One model at one proxy."""

    def __init__(self) -> None:
        self.queue: list[Request] = []
        self.replicas: dict[str, Replica] = {}

    @property
    def status(self) -> ModelStatus:
        known = [each.status for _, each in sorted(self.replicas.items(), key=lambda item: replicas.number(item[0]))]
        return replicas.front(known, {each.name for each in known if each.suspended})

    @property
    def best(self) -> Replica | None:
        """The least busy one that admits."""
        return min((each for each in self.replicas.values() if each.admits), key=lambda r: r.leases, default=None)

    def all_generations(self) -> list[tuple[str, Generation]]:
        return [(name, each) for name, replica in self.replicas.items() for each in replica.generations.values()]

    def hopeless(self, now: float) -> bool:
        """Failed, or in a back-off that is too long to wait for."""
        rest = 0.0 if self.status.retry_at is None else self.status.retry_at - now
        return self.status.state is State.FAILED or (self.status.state is State.BACKOFF and rest > _HOLD)


class Proxy:
    """In the place of a ward. `report` sends a message to the root."""

    def __init__(self, index: int, agenda: Agenda, report: Callable[[Proxy, Any], None]) -> None:
        self.role, self.index, self.stopping, self.alive = f"proxy-{index}", index, False, True
        self.gates: dict[str, Gate] = {}
        self._agenda = agenda
        self._report = report
        self.shutting = False
        self.stirred: Callable[[str], None] = lambda name: None  # a replica has more or less to do

    def report(self, message: Any) -> None:
        if self.alive:
            self._report(self, message)

    # -- clients -----------------------------------------------------------------------------------------------

    def ask(self, request: Request) -> None:
        gate = self._gate(request.model)
        if self.shutting or gate is None:
            request.ended = "refused"
        elif gate.best and not gate.queue:
            self._admit(gate, request)
        elif gate.hopeless(self._agenda.now):
            request.ended = "refused"
        else:
            gate.queue.append(request)
            if len(gate.queue) == 1:
                self.report(Want(request.model))

    def leave(self, request: Request) -> None:
        """The client goes away."""
        gate = self._gate(request.model)
        if gate is None:
            return
        if request in gate.queue:
            request.ended = "left"
            gate.queue.remove(request)
            if not gate.queue and not self.shutting:
                self.report(Unwant(request.model))
        for name, generation in gate.all_generations():
            self._release(name, generation, request, "left")

    def waiting(self) -> list[Request]:
        return [request for gate in self.gates.values() for request in gate.queue]

    def in_flight(self, model: str, generation: int) -> int:
        replica = self._replica(model)
        found = replica.generations.get(generation) if replica else None
        return len(found.leases) if found else 0

    def die(self) -> None:
        self.alive = False
        for gate in self.gates.values():
            for request in [*gate.queue, *(r for _, g in gate.all_generations() for r in g.leases)]:
                request.ended = request.ended or "connection"

    # -- the root's messages -----------------------------------------------------------------------------------

    def obey(self, message: Message) -> None:
        match message:
            case Shutdown(deadline):
                self._shut_down(deadline)
            case Listed(_, statuses):
                for status in statuses:
                    if self._replica(status.name) is None:
                        self.know(status)
            case Unlisted(model) if replicas.first(model):
                self._dismiss(model, "refused")
                self.gates.pop(model, None)
            case Unlisted(model):
                if gate := self._gate(model):
                    gate.replicas.pop(model, None)
            case ModelChanged(status) if self._replica(status.name):
                self._learn(status)
            case Attach() | Drain() | Reopen() | Lost() if self._replica(message.model):
                self._obey(message)
            case _:
                pass

    def know(self, status: ModelStatus) -> None:
        """A model, or a replica, there is."""
        self.gates.setdefault(replicas.base(status.name), Gate()).replicas[status.name] = Replica(status)

    def _obey(self, message: Attach | Drain | Reopen | Lost) -> None:
        match message:
            case Attach(model, generation):
                self._attach(model, generation)
            case Drain():
                self._drain(message)
            case Reopen(model, number):
                if generation := self._known(model).generations.get(number):
                    generation.closed, generation.drain = False, None
                    self._serve(replicas.base(model))
            case Lost():
                self._lost(message)

    def _learn(self, status: ModelStatus) -> None:
        self._known(status.name).status = status
        model = replicas.base(status.name)
        if self.gates[model].queue and self.gates[model].hopeless(self._agenda.now):
            self._dismiss(model, "refused")
        self._serve(model)

    def _shut_down(self, deadline: float) -> None:
        self.shutting = True
        for model in self.gates:
            self._dismiss(model, "refused")
        self._agenda.after(deadline, self._cut)
        self._look_empty()

    def link_ended(self, model: str, number: int, broken: bool) -> None:
        """The other end of a link is gone, or talks nonsense."""
        replica = self._replica(model)
        generation = replica.generations.get(number) if replica else None
        if generation is None or not self.alive:
            return
        generation.up = False
        if generation.closed and not generation.leases and not broken:
            self._forget(model, generation, "lost")
        elif broken:
            self._give_up(model, generation)
        else:
            self._agenda.after(_GRACE, lambda: self._give_up(model, generation))

    # -- inside ------------------------------------------------------------------------------------------------

    def _gate(self, name: str) -> Gate | None:
        return self.gates.get(replicas.base(name))

    def _replica(self, name: str) -> Replica | None:
        gate = self._gate(name)
        return gate.replicas.get(name) if gate else None

    def _known(self, name: str) -> Replica:
        replica = self._replica(name)
        assert replica is not None
        return replica

    def _attach(self, model: str, number: int) -> None:
        replica = self._known(model)
        if old := replica.generations.get(number):
            self._forget(model, old, "lost")
        generation = replica.generations[number] = replica.current = Generation(number)
        self._agenda.after(0.002, lambda: self._greeted(model, generation))

    def _greeted(self, model: str, generation: Generation) -> None:
        if self.alive and generation.up and self._holds(model, generation):
            self._serve(replicas.base(model))
            if not generation.leases:
                self.report(Activity(model, generation.number, 0))

    def _holds(self, model: str, generation: Generation) -> bool:
        replica = self._replica(model)
        return replica is not None and replica.generations.get(generation.number) is generation

    def _serve(self, model: str) -> None:
        gate = self.gates[model]
        while gate.queue and gate.best:
            self._admit(gate, gate.queue.pop(0))

    def _admit(self, gate: Gate, request: Request) -> None:
        replica = gate.best
        assert replica is not None
        assert replica.current is not None
        name, generation = replica.status.name, replica.current
        generation.leases.add(request)
        if len(generation.leases) == 1:
            self.report(Activity(name, generation.number, 1))
        self.stirred(name)
        self._agenda.after(request.service, lambda: self._release(name, generation, request, "served"))

    def _release(self, model: str, generation: Generation, request: Request, how: str) -> None:
        if request not in generation.leases or not self.alive:
            return
        if request.ended:
            raise Violation("a request ends once", f"{request.model} {request.number}: {request.ended}, then {how}")
        request.ended = how
        generation.leases.remove(request)
        self.stirred(model)
        if generation.leases:
            return
        self.report(Activity(model, generation.number, 0))
        if generation.drain is not None:
            generation.drain = None
            self.report(Drained(model, generation.number))
        self._look_empty()

    def _drain(self, order: Drain) -> None:
        generation = self._known(order.model).generations.get(order.generation)
        if generation is None:
            self.report(Drained(order.model, order.generation))
        elif order.if_idle and generation.leases:
            self.report(Busy(order.model, order.generation))
        elif not generation.leases:
            generation.closed = True
            self.report(Drained(order.model, order.generation))
        else:
            generation.closed, generation.drain = True, order
            if order.deadline is not None:
                self._agenda.after(order.deadline, lambda: self._expire(order.model, generation, order))

    def _expire(self, model: str, generation: Generation, order: Drain) -> None:
        if generation.drain is order:
            self._end_all(model, generation, "unloaded")

    def _lost(self, order: Lost) -> None:
        replica, model = self._known(order.model), replicas.base(order.model)
        if generation := replica.generations.get(order.generation):
            self._forget(order.model, generation, "lost")
        planned = order.cause == "unloaded" and replica.status.state is not State.STOPPING
        if planned and replicas.first(order.model):
            self._dismiss(model, "unloaded")
        elif self.gates[model].queue:
            self.report(Want(model))

    def _give_up(self, model: str, generation: Generation) -> None:
        if self.alive and self._holds(model, generation):
            self.report(LinkBroken(model, generation.number, "by chance"))
            self._forget(model, generation, "lost")

    def _forget(self, model: str, generation: Generation, how: str) -> None:
        replica = self._known(model)
        replica.generations.pop(generation.number, None)
        if replica.current is generation:
            replica.current = None
        generation.closed = True
        self._end_all(model, generation, how)

    def _end_all(self, model: str, generation: Generation, how: str) -> None:
        for request in tuple(generation.leases):
            self._release(model, generation, request, how)

    def _cut(self) -> None:
        for gate in self.gates.values():
            for name, generation in gate.all_generations():
                self._end_all(name, generation, "unloaded")

    def _dismiss(self, model: str, how: str) -> None:
        gate = self.gates.get(model)
        if gate is None or not gate.queue:
            return
        for request in gate.queue:
            request.ended = how
        gate.queue = []
        self.report(Unwant(model))

    def _look_empty(self) -> None:
        if self.shutting and not any(g.leases for gate in self.gates.values() for _, g in gate.all_generations()):
            self.report(ShutDown())
