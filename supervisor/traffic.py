"""Which proxies are joined to which model, and how much they have in flight on it. Pure bookkeeping."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable

_BROKEN_LINKS, _BROKEN_WINDOW = 3, 60.0


class Traffic:
    """`linked[model]`: the proxies that hold a link to its present worker."""

    def __init__(self) -> None:
        self.linked: dict[str, set[Hashable]] = defaultdict(set)
        self._in_flight: dict[str, dict[Hashable, int]] = defaultdict(dict)
        self._promised: dict[str, set[Hashable]] = defaultdict(set)
        self._last_used: dict[str, float] = {}
        self._broken: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_BROKEN_LINKS))

    def in_flight(self, model: str) -> int:
        return sum(self._in_flight[model].values())

    def last_used(self, model: str) -> float:
        """When its last request ended, or it was loaded; 0 if never."""
        return self._last_used.get(model, 0.0)

    def used(self, model: str, now: float) -> None:
        self._last_used[model] = now

    def promised(self, model: str) -> bool:
        """Whether some who waited for it have not been admitted yet."""
        return bool(self._promised[model])

    def promise(self, model: str, proxy: Hashable) -> None:
        """It is ready, and requests of this proxy have waited for it: theirs until the proxy reports."""
        self._promised[model].add(proxy)
        self._in_flight[model][proxy] = 1

    def report(self, model: str, proxy: Hashable, in_flight: int, now: float) -> None:
        """A proxy says how many requests it has in flight on the model."""
        self._promised[model].discard(proxy)
        self._in_flight[model][proxy] = in_flight
        if not in_flight:
            self.used(model, now)

    def lost(self, model: str) -> None:
        """The worker is gone, and with it all links and what was in flight."""
        self.linked[model].clear()
        self._promised[model].clear()
        self._in_flight[model].clear()

    def unlink(self, proxy: Hashable, now: float) -> None:
        """The proxy is gone."""
        for model, proxies in self.linked.items():
            proxies.discard(proxy)
            self._promised[model].discard(proxy)
            if self._in_flight[model].pop(proxy, 0):
                self.used(model, now)

    def part(self, model: str, proxy: Hashable) -> None:
        """They are joined no more."""
        self.linked[model].discard(proxy)
        self._promised[model].discard(proxy)
        self._in_flight[model].pop(proxy, None)

    def broke(self, model: str, proxy: Hashable, now: float) -> bool:
        """A link broke. True if it is the third of this model's within a minute: the worker is to blame."""
        self.part(model, proxy)
        broken = self._broken[model]
        broken.append(now)
        if len(broken) < _BROKEN_LINKS or now - broken[0] > _BROKEN_WINDOW:
            return False
        broken.clear()
        return True
