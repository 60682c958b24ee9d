"""Drains under way: proxies are asked to let go of a model, and their answers awaited. Eviction is a handshake."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from supervisor.control import Drain, Message, Reopen
from supervisor.lifecycle import Model
from supervisor.timers import Timers
from supervisor.traffic import Traffic

_GRACE = 0.5  # a proxy that does not answer a drain by its deadline plus this counts as drained


class Proxies(Protocol):
    """What drains need of the proxies."""

    running: dict[int, Any]

    def send(self, ward: Any, message: Message, fds: Sequence[int] = ()) -> None: ...


@dataclass(slots=True)
class _Awaited:
    proxies: set[Hashable]
    evicting: bool  # for the sake of another model, so that it can be withdrawn


class Drains:
    """`over(model)` is called when nothing is in flight on a model any more, or its deadline has passed."""

    def __init__(
        self,
        proxies: Proxies,
        traffic: Traffic,
        timers: Timers,
        clock: Callable[[], float],
        over: Callable[[str], None],
    ) -> None:
        self._proxies, self._traffic, self._timers = proxies, traffic, timers
        self._clock, self._over = clock, over
        self._of: dict[str, _Awaited] = {}

    def ask(self, model: Model, *, if_idle: bool, deadline: float | None, final: bool = False) -> None:
        """Has every proxy stop admitting to a draining model. `deadline` None: what runs has all the time it needs.

        `final`: placement, which counts on estimates, may not withdraw it.
        """
        for proxy in self._linked(model.name):
            order = Drain(model.name, model.generation, model.stop_reason, if_idle, deadline)
            self._proxies.send(proxy, order)
        self.wait(model.name, evicting=model.stop_reason == "evicted" and not final, deadline=deadline)

    def wait(self, model: str, *, evicting: bool = False, deadline: float | None) -> None:
        """Awaits the proxies that are joined to the model; they have been told."""
        self._of[model] = _Awaited(set(self._linked(model)), evicting)
        if deadline is not None:
            self.limit(model, deadline)
        self._look(model)

    def limit(self, model: str, deadline: float) -> None:
        """Gives a drain under way a new deadline, seconds from now."""
        self._timers.set(("drain", model), self._clock() + deadline + _GRACE, lambda: self._over(model))

    def answered(self, model: str, proxy: Hashable) -> None:
        """A proxy has nothing in flight on the model any more."""
        drain = self._of.get(model)
        if drain is not None and proxy in drain.proxies:
            drain.proxies.discard(proxy)
            self._look(model)

    def proxy_gone(self, proxy: Hashable) -> None:
        """A proxy that died counts as drained: the worker has cancelled its requests."""
        for model in list(self._of):
            self.answered(model, proxy)

    def withdraw(self, model: Model) -> None:
        """The proxies admit again."""
        for proxy in self._linked(model.name):
            self._proxies.send(proxy, Reopen(model.name, model.generation))

    def end(self, model: str) -> None:
        """Forgets the drain: the model has moved on."""
        self._of.pop(model, None)
        self._timers.cancel(("drain", model))

    def evicting(self, model: str) -> bool:
        return model in self._of and self._of[model].evicting

    def _look(self, model: str) -> None:
        if not self._of[model].proxies:
            self._over(model)

    def _linked(self, model: str) -> list[Any]:
        return [proxy for proxy in self._proxies.running.values() if proxy in self._traffic.linked[model]]
