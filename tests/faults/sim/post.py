"""What is sent between root and proxies: it arrives later, in order, after a time that chance decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from supervisor.control import Message
from tests.faults.sim.agenda import Agenda
from tests.faults.sim.proxy import Proxy


class Proxies:
    """In the place of supervisor.proxies.Proxies, as Fleet uses it."""

    def __init__(self, agenda: Agenda) -> None:
        self.running: dict[int, Proxy] = {}
        self._agenda = agenda
        self._arrives: dict[object, float] = {}

    def send(self, proxy: Proxy, message: Message, fds: Sequence[int] = ()) -> None:
        self.deliver(("to", proxy), lambda: proxy.alive and proxy.obey(message))

    def broadcast(self, message: Message) -> None:
        for proxy in self.running.values():
            self.send(proxy, message)

    def deliver(self, line: object, what: Callable[[], Any]) -> None:
        at = max(self._arrives.get(line, 0.0), self._agenda.now + self._agenda.draw.random() * 0.02)
        self._arrives[line] = at
        self._agenda.after(at - self._agenda.now, what)
