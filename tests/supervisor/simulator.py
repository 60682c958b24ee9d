"""The fleet, the proxies and the workers in one small model of them, so that placement is tried over many arrivals.

A request passes at once if its model is ready and open, else it waits; all that wait are admitted when it is ready.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from supervisor.control import State
from supervisor.placement import Resident, Wanted, plan


@dataclass(eq=False)
class Request:
    """Times are in seconds; `admitted` is None until it is."""

    model: str
    arrives: float
    takes: float = 1.0
    priority: int = 0
    admitted: float | None = None

    @property
    def waited(self) -> float:
        assert self.admitted is not None, f"{self} was never admitted"
        return self.admitted - self.arrives


@dataclass
class _Model:
    state: State = State.UNLOADED
    in_flight: int = 0
    last_used: float = 0.0
    promised: bool = False
    waiting: list[Request] = field(default_factory=list)


class Simulator:
    """`loads`: the models in the order in which they were loaded. `most`: the most that were in memory at once."""

    def __init__(self, requests: Iterable[Request], room: int = 1, max_wait: float = 10.0, load: float = 0.5) -> None:
        self.requests = list(requests)
        self.loads: list[str] = []
        self.most = 0
        self._room, self._max_wait, self._load = room, max_wait, load
        self._models = {request.model: _Model() for request in self.requests}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._now = 0.0

    def run(self) -> Simulator:
        """Until every request has been served, or nothing can happen any more."""
        for request in self.requests:
            self._at(request.arrives, lambda request=request: self._arrive(request))
        while self._events:
            self._now, _, event = heapq.heappop(self._events)
            event()
            self._settle()
        return self

    @property
    def swaps(self) -> int:
        return len(self.loads) - 1

    @property
    def longest(self) -> float:
        return max(request.waited for request in self.requests)

    # -- what happens ----------------------------------------------------------------------------------------------

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._count), event))

    def _arrive(self, request: Request) -> None:
        model = self._models[request.model]
        if model.state is State.READY:
            self._admit(request)
        else:
            model.waiting.append(request)
            self._at(self._now + self._max_wait, lambda: None)  # the fleet's timer

    def _admit(self, request: Request) -> None:
        model = self._models[request.model]
        request.admitted = self._now
        model.in_flight += 1
        self._at(self._now + request.takes, lambda: self._end(model))

    def _end(self, model: _Model) -> None:
        model.in_flight -= 1
        model.last_used = self._now
        if model.state is State.DRAINING and not model.in_flight:
            self._stop(model)

    def _stop(self, model: _Model) -> None:
        model.state = State.STOPPING
        self._at(self._now + self._load / 5, lambda: self._stopped(model))

    def _stopped(self, model: _Model) -> None:
        model.state = State.UNLOADED

    def _ready(self, model: _Model) -> None:
        model.state, model.promised, model.last_used = State.READY, True, self._now
        model.in_flight = 1  # the root's guess until the proxy reports
        self._at(self._now, lambda: self._serve(model))

    def _serve(self, model: _Model) -> None:
        model.promised, model.in_flight = False, 0
        if model.state is State.READY:
            waiting, model.waiting = model.waiting, []
            for request in waiting:
                self._admit(request)

    # -- what the fleet does ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        while self._act():
            pass
        held = [m for m in self._models.values() if m.state not in (State.UNLOADED, State.STOPPING)]
        self.most = max(self.most, len(held))

    def _act(self) -> bool:
        """One plan, carried out. Whether there was anything to do."""
        done = plan(map(self._resident, self._models), self._wants(), self._room, self._max_wait, self._now)
        for name in done.reopen:
            self._models[name].state = State.READY
            self._serve(self._models[name])
        for name in done.load:
            self.loads.append(name)
            self._models[name].state = State.LOADING
            self._at(self._now + self._load, lambda name=name: self._ready(self._models[name]))
        for name in (*done.evict, *done.close):
            self._models[name].state = State.DRAINING
            if not self._models[name].in_flight:
                self._stop(self._models[name])
        return bool(done.load or done.evict or done.close or done.reopen)

    def _resident(self, name: str) -> Resident:
        model = self._models[name]
        return Resident(
            name,
            model.state,
            model.in_flight,
            model.last_used,
            placeable=model.state is State.UNLOADED,
            evicting=model.state is State.DRAINING,
            promised=model.promised,
        )

    def _wants(self) -> list[Wanted]:
        return [
            Wanted(name, model.waiting[0].arrives, priority=max(request.priority for request in model.waiting))
            for name, model in self._models.items()
            if model.waiting and model.state not in (State.LOADING, State.READY)
        ]
