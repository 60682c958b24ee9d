"""Pure: how long a load should take: as long as the last one, or, before the first, as its size and the others' say."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from supervisor.control import Entry


def pace(entries: Iterable[Entry]) -> float:
    """Milliseconds per byte of the models' files on this machine, the median of all known loads; 0 before the first."""
    known = [
        entry.memory.load_ms / entry.card.file_size
        for entry in entries
        if entry.memory and entry.memory.load_ms and entry.card and entry.card.file_size
    ]
    return statistics.median(known) if known else 0.0


def expected(entry: Entry, usual: float) -> float:
    """Milliseconds, 0 = nobody can know. `usual`: the pace."""
    if entry.memory and entry.memory.load_ms:
        return entry.memory.load_ms
    return usual * entry.card.file_size if entry.card else 0.0
