"""A fleet with false processes, proxies, clients and clock, and the invariants that hold after each of its turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from msgspec.structs import replace

from supervisor import config, machine, machines, oom, process, replicas
from supervisor.control import Entry, ShutDown, Shutdown, State
from supervisor.fleet import Fleet
from supervisor.lifecycle import IllegalTransition
from supervisor.timers import Timers
from tests.faults.sim.agenda import Agenda, Violation
from tests.faults.sim.post import Proxies
from tests.faults.sim.proxy import Proxy, Request
from tests.faults.sim.rules import NEEDS, Rules
from tests.faults.sim.workers import Odds, Workers

NAMES = "abcp"
_HOLDS = {State.LOADING, State.READY, State.DRAINING, State.STOPPING}
_PASSING = {State.LOADING, State.DRAINING, State.STOPPING, State.BACKOFF}
_CALM = 900.0  # seconds in which everything must have come to rest, once nothing goes wrong any more


class World:
    """One schedule's run. `max_models`, `memory`, `proxies`: its limits; `bad`: how often what goes wrong.

    `copies`: how many replicas a and c may have.
    """

    def __init__(
        self, agenda: Agenda, *, max_models: int, memory: int, proxies: int, bad: float, copies: int = 1
    ) -> None:
        self.agenda, self.timers = agenda, Timers()
        self.proxies = Proxies(agenda)
        self.rules = Rules(self)
        self.workers = Workers(agenda, Odds(bad), self.rules)
        self.requests: list[Request] = []
        self._pongs: set[str] = set()
        self.models = {
            name: config.Model(
                name=name,
                pin=name == "p",
                preload=name == "a",
                idle_timeout=5.0 * (name == "c"),
                replicas=copies if name in "ac" else 1,
            )
            for name in NAMES
        }
        self.settings = config.Config(
            file="x",
            models=self.models,
            placement=config.Placement(max_models=max_models, memory={"ram": memory} if memory else "auto"),
            restart=config.Restart(jitter=0.0),  # chance that no seed governs
        )
        self.fleet = Fleet(self.settings, self.timers, self.proxies, self.workers, lambda: agenda.now)  # type: ignore[arg-type]
        self.workers.fleet, self.workers.turn, self.workers.linked = self.fleet, self.turn, self._linked
        self.entries = {name: Entry(model, estimated={"ram": NEEDS[name]}) for name, model in self.models.items()}
        self.turn(lambda: self.fleet.adopt(self.entries))
        for index in range(proxies):
            self.start_proxy(index)
        self.turn(self.fleet.preload)

    # -- the root's loop ---------------------------------------------------------------------------------------

    def turn(self, what: Callable[[], object]) -> None:
        """Something happens to the root; then it settles, and everything must be in order."""
        self.rules.turn()
        try:
            what()
            self.fleet.settle()
        except (IllegalTransition, KeyError) as error:
            raise Violation("the core knows what to do", repr(error)) from error
        for name, model in self.fleet.stock.models.items():
            if model.state is State.LOADING and name not in self.workers.of:
                continue  # room is being made for another try
            if (model.state in _HOLDS or model.stuck) != (name in self.workers.of):
                text = (
                    f"{name} is {model.state.name}, and its process is {'there' if name in self.workers.of else 'gone'}"
                )
                raise Violation("states match processes", text)

    def pass_time(self, seconds: float) -> None:
        self.agenda.run(self.agenda.now + seconds, self.timers.next, self._tick)

    def _tick(self) -> None:
        self.turn(lambda: self.timers.run(self.agenda.now))

    # -- proxies and clients -----------------------------------------------------------------------------------

    def start_proxy(self, index: int) -> None:
        proxy = self.proxies.running[index] = Proxy(index, self.agenda, self._reported)
        proxy.stirred = self._stirred
        for status in self.fleet.statuses():
            proxy.know(status)
        self.turn(lambda: self.fleet.attach_all(proxy))  # type: ignore[arg-type]

    def kill_proxy(self, index: int) -> None:
        proxy = self.proxies.running.get(index)
        if proxy is not None and proxy.alive:
            proxy.die()
            self.agenda.after(0.05, lambda: self._reap_proxy(index, proxy))

    def _reap_proxy(self, index: int, proxy: Proxy) -> None:
        del self.proxies.running[index]
        self.turn(lambda: self.fleet.proxy_gone(proxy))  # type: ignore[arg-type]
        if not self.fleet.stock.closing:
            self.agenda.after(0.3, lambda: self.fleet.stock.closing or self.start_proxy(index))

    def _reported(self, proxy: Proxy, message: Any) -> None:
        self.proxies.deliver(("from", proxy), lambda: self._heard(proxy, message))

    def _heard(self, proxy: Proxy, message: Any) -> None:
        if self.proxies.running.get(proxy.index) is not proxy:
            return  # its control socket is closed
        self.agenda.note("{} says {}", proxy.role, message)
        if isinstance(message, ShutDown):
            self.turn(lambda: self.fleet.proxy_gone(proxy))  # type: ignore[arg-type]
        else:
            self.turn(lambda: self.fleet.from_proxy(proxy, message))  # type: ignore[arg-type]

    def _linked(self, model: str, proxy: int) -> None:
        """The worker's death is seen at the other end of the link."""
        worker, ward = self.workers.of[model], self.proxies.running[proxy]
        generation = worker.generation

        def gone() -> None:
            self.agenda.after(self.agenda.draw.random() * 0.01, lambda: ward.link_ended(model, generation, False))

        worker.gone.append(gone)

    def _stirred(self, name: str) -> None:
        """The replica's next pong tells of it."""
        if name not in self._pongs and self.models[replicas.base(name)].replicas > 1:
            self._pongs.add(name)
            self.agenda.after(1.0, lambda: self._pong(name))

    def _pong(self, name: str) -> None:
        self._pongs.discard(name)
        if (worker := self.workers.of.get(name)) is not None:
            proxies = self.proxies.running.values()
            in_flight = sum(proxy.in_flight(name, worker.generation) for proxy in proxies if proxy.alive)
            self.workers.pong(name, in_flight)

    def ask(self, model: str, index: int, service: float) -> None:
        request = Request(len(self.requests), model, service, self.agenda.now)
        proxy = self.proxies.running.get(index)
        if proxy is not None and proxy.alive:
            self.requests.append(request)
            proxy.ask(request)

    def shut_down(self) -> None:
        deadline = self.settings.shutdown.drain_timeout
        self.proxies.broadcast(Shutdown(deadline))
        self.turn(lambda: self.fleet.shut_down(deadline))

    def reconfigure(self, max_models: int, memory: int) -> None:
        placement = config.Placement(max_models=max_models, memory={"ram": memory} if memory else "auto")
        self.settings = replace(self.settings, placement=placement)
        self.turn(lambda: self.fleet.reconfigure(self.settings))

    def adopt(self, entries: dict[str, Entry]) -> None:
        for name in {*self.entries, *entries}:
            if self.entries.get(name) != entries.get(name):
                self.rules.cleared(name)
        self.entries = entries
        self.turn(lambda: self.fleet.adopt(entries))

    # -- the end -----------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Nothing goes wrong any more, and nobody is pinned: everything must come to rest, and everyone be answered."""
        self.agenda.note("calm")
        self.workers.odds = Odds(0.0)
        if not self.fleet.stock.closing:
            free = {name: replace(entry, model=replace(entry.model, pin=False)) for name, entry in self.entries.items()}
            self.models = {name: replace(model, pin=False) for name, model in self.models.items()}
            self.adopt(free)
        self.pass_time(_CALM)
        for request in self.requests:
            if not request.ended:
                text = f"request {request.number} for {request.model}, since {request.since - 1000:.3f}"
                raise Violation("every want is answered", f"{text}: {self.fleet.model(request.model)}")
        for name, model in self.fleet.stock.models.items():
            resting = self.fleet.stock.closing and model.state is State.BACKOFF  # no more loads
            if (model.state in _PASSING and not resting) or model.stuck:
                raise Violation("every state has a way out", f"{name} stays {model.state.name}")
        if self.fleet.stock.leaving:
            raise Violation("what left the catalog goes", f"still there: {list(self.fleet.stock.leaving)}")
        for name, worker in self.workers.of.items():
            if worker.settings.n_ctx != self.entries[replicas.base(name)].model.n_ctx:
                raise Violation("a model has the settings of the catalog", f"{name}: {worker.settings.n_ctx}")
        if self.fleet.stock.closing and self.workers.of:
            raise Violation("a stop ends", f"left: {list(self.workers.of)}")


@contextmanager
def patched(agenda: Callable[[], Agenda]) -> Iterator[None]:
    """The root's edges to the kernel, without it."""

    @contextmanager
    def link() -> Iterator[tuple[int, int]]:
        yield 0, 0

    clock = SimpleNamespace(time=lambda: agenda().now, monotonic=lambda: agenda().now)
    with (
        mock.patch.object(machines, "time", clock),
        mock.patch.object(process, "link", link),
        mock.patch.object(oom, "kills", return_value=0),
        mock.patch.object(machine, "ram", return_value=0),
    ):
        yield
