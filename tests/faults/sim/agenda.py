"""A false clock and what is to happen on it, in order; chance with a seed; a trace of what happened."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

_TURNS = 20_000  # more events than any schedule has: past it the core turns in circles


class Violation(AssertionError):
    """An invariant does not hold. `rule` names it."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Agenda:
    """`now` is monotonic seconds."""

    def __init__(self, seed: int, verbose: bool = False) -> None:
        self.now = 1000.0
        self.draw = random.Random(seed)
        self.trace: list[str] = []
        self._verbose = verbose
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def note(self, text: str, *values: object) -> None:
        if self._verbose:
            self.trace.append(f"{self.now - 1000:9.3f}  " + text.format(*values))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._count), what))

    def jump(self, seconds: float) -> None:
        """The clock goes on and nothing happens meanwhile: a machine that was paused. What was due comes late."""
        self.now += seconds

    def run(self, until: float, due: Callable[[], float | None], tick: Callable[[], None]) -> None:
        """Performs everything up to `until`, which is the time then. `due`: when the core wants its `tick`."""
        for _ in range(_TURNS):
            event = self._heap[0][0] if self._heap else math.inf
            timer = math.inf if (next_timer := due()) is None else next_timer
            if min(event, timer) > until:
                self.now = max(self.now, until)
                return
            self.now = max(self.now, min(event, timer))
            if event <= timer:
                heapq.heappop(self._heap)[2]()
            else:
                tick()
        raise Violation("a turn ends", f"{_TURNS} events and no rest at {self.now - 1000:.3f}")
