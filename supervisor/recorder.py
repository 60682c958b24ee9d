"""A process's flight recorder: its phase and the ids of its requests, in memory that outlives it. Never content.

`setup` opens it in the process; `phase`, `begin` and `end` are memory copies, and do nothing where there is none. The
reader trusts nothing of what it finds: the writer may have died in the middle of a row, or run wild.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from supervisor import sealed

ROWS = 200  # requests that are remembered: those that run, then the last that have ended
_HEAD = struct.Struct("=16sd")  # phase, since when
_ROW = struct.Struct("=dd128s")  # began, ended (0: runs), id; Unix times
SIZE = _HEAD.size + ROWS * _ROW.size
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_PHASE = re.compile(rb"[a-z]{1,16}")


def create() -> int:
    """A descriptor of a new, empty recorder."""
    return sealed.create("lsv-recorder", SIZE)


class Served(NamedTuple):
    """A request. Unix times; `ended` None: it ran."""

    id: str
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """What a process was at: `phase` since a Unix time, "" if it never said; requests, the first to begin first."""

    phase: str = ""
    since: float = 0.0
    requests: tuple[Served, ...] = ()


class Writer:
    """The process's own end; for any thread."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._lock = threading.Lock()
        self._free = deque(range(ROWS))  # those that ended longest ago come first

    def phase(self, word: str) -> None:
        _HEAD.pack_into(self._map, 0, word.encode(), time.time())

    def begin(self, id: str) -> int:
        """The request's row, for `end`; -1 if too many run."""
        with self._lock:
            if not self._free:
                return -1
            row = self._free.popleft()
            _ROW.pack_into(self._map, _at(row), time.time(), 0.0, id.encode("ascii", "replace"))
            return row

    def end(self, row: int) -> None:
        if row < 0:
            return
        with self._lock:
            struct.pack_into("=d", self._map, _at(row) + 8, time.time())
            self._free.append(row)


def read(fd: int) -> Record:
    """What the recorder holds, as far as it makes sense."""
    raw = os.pread(fd, SIZE, 0).ljust(SIZE, b"\0")
    word, since = _HEAD.unpack_from(raw, 0)
    rows = (_served(*_ROW.unpack_from(raw, _at(row))) for row in range(ROWS))
    found = {(row.id, row.ended is None): row for row in rows if row is not None}  # choices of one request are one
    ordered = tuple(sorted(found.values(), key=lambda row: row.began))
    return Record(_text(_PHASE, word), since if _time(since) else 0.0, ordered)


NOTHING = Record()


def _served(began: float, ended: float, id: bytes) -> Served | None:
    text = _text(_ID, id)
    if not text or not _time(began) or not math.isfinite(ended):
        return None
    return Served(text, began, ended if ended > 0 else None)


def _text(pattern: re.Pattern[bytes], raw: bytes) -> str:
    word = raw.rstrip(b"\0")
    return word.decode() if pattern.fullmatch(word) else ""


def _time(value: float) -> bool:
    return math.isfinite(value) and 0 < value < 2**40


def _at(row: int) -> int:
    return _HEAD.size + row * _ROW.size


# -- this process's own ---------------------------------------------------------------------------------------------

_mine: Writer | None = None


def setup(fd: int) -> None:
    """From now on this process records into `fd`."""
    global _mine
    _mine = Writer(fd)


def phase(word: str) -> None:
    if _mine is not None:
        _mine.phase(word)


def begin(id: str) -> int:
    return -1 if _mine is None else _mine.begin(id)


def end(row: int) -> None:
    if _mine is not None:
        _mine.end(row)
