"""Named deadlines for a loop that blocks until the next one."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Hashable


class Timers:
    """At most one deadline per key; setting a key again replaces it."""

    def __init__(self) -> None:
        self._due: dict[Hashable, tuple[float, int, Callable[[], None]]] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._count = itertools.count()

    def set(self, key: Hashable, when: float, callback: Callable[[], None]) -> None:
        """Calls back once the clock passes `when`, a monotonic time."""
        number = next(self._count)
        self._due[key] = (when, number, callback)
        heapq.heappush(self._heap, (when, number, key))

    def no_later(self, key: Hashable, when: float, callback: Callable[[], None]) -> None:
        """As `set`, unless this key is due earlier anyway: for a deadline that moves back all the time."""
        if key not in self._due or when < self._due[key][0]:
            self.set(key, when, callback)

    def cancel(self, key: Hashable) -> None:
        self._due.pop(key, None)

    def pending(self, key: Hashable) -> bool:
        return key in self._due

    def next(self) -> float | None:
        """When the next deadline is, or None."""
        while self._heap and self._stale(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Calls back everything that is due."""
        while (when := self.next()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            self._due.pop(key)[2]()

    def _stale(self, entry: tuple[float, int, Hashable]) -> bool:
        due = self._due.get(entry[2])
        return due is None or due[1] != entry[1]
