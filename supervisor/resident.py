"""How much memory a process takes, as /proc says."""

from __future__ import annotations

import os
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: resident, what of that it shares with others, and the most that was resident at any look."""

    resident: int = 0
    shared: int = 0
    peak: int = 0


def look(pid: int | None, before: Memory | None = None) -> Memory | None:
    """The memory of a process now, or as it was `before` if it has ended. Never waits: nothing is locked for it."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return before
    if not resident:  # a zombie has none
        return before
    peak = max(resident * _PAGE, before.peak if before else 0)
    return Memory(resident * _PAGE, shared * _PAGE, peak)
