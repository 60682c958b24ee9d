"""What models leave behind when they are unloaded: states of their sequences, in memory that outlives the worker.

The root only keeps the descriptors; what lies behind them is the workers' business, and is never read here. A worker
gets an empty one to write at its planned stop, and the one that its predecessor has written.
"""

from __future__ import annotations

import os

_NAME = "lsv-park"


class Parks:
    """One memfd per model with what it left, at most `budget` bytes in all: the oldest goes first. 0: nothing."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._left: dict[str, int] = {}  # the oldest first
        self._lent: dict[str, int] = {}

    @property
    def size(self) -> int:
        """Bytes kept."""
        return sum(os.fstat(fd).st_size for fd in self._left.values())

    def lend(self, model: str) -> list[int]:
        """For a worker that starts: an empty memfd, and what was left, if anything. The caller sends copies."""
        if not self.budget:
            return []
        self.ended(model, clean=False)  # a worker before it may have been given up
        self._lent[model] = os.memfd_create(_NAME)
        return [self._lent[model], *(fd for fd in (self._left.get(model),) if fd is not None)]

    def ended(self, model: str, *, clean: bool) -> None:
        """The model's worker is gone: what it wrote replaces what was there, unless it wrote nothing or has crashed."""
        fd = self._lent.pop(model, None)
        if fd is None:
            return
        if not clean or not os.fstat(fd).st_size:
            os.close(fd)
            return
        self.forget(model)
        self._left[model] = fd
        while self.size > self.budget:
            self.forget(next(iter(self._left)))

    def forget(self, model: str) -> None:
        """What this model left is of no use any more."""
        if (fd := self._left.pop(model, None)) is not None:
            os.close(fd)


def free_memory() -> int:
    """Bytes that programs may still take, as the kernel says; 0 if it does not."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":", 1) for line in file)
        return int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
