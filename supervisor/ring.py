"""The last lines of a process, in memory that outlives it: a memfd of fixed size, written in a circle."""

from __future__ import annotations

import mmap
import os
import struct

from supervisor import sealed

SIZE = 64 * 1024
_HEADER = struct.Struct("=Q")  # bytes written so far, ever


def create() -> int:
    """A descriptor of a new, empty ring."""
    return sealed.create("lsv-ring", SIZE)


class Writer:
    """The process's own end. One writer at a time; `write` is a memory copy and never blocks."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._room = SIZE - _HEADER.size
        (self._written,) = _HEADER.unpack_from(self._map, 0)

    def write(self, data: bytes) -> None:
        data = data[-self._room :]
        start = _HEADER.size + self._written % self._room
        head = data[: SIZE - start]
        self._map[start : start + len(head)] = head
        if rest := data[len(head) :]:
            self._map[_HEADER.size : _HEADER.size + len(rest)] = rest
        self._written += len(data)
        _HEADER.pack_into(self._map, 0, self._written)


def read(fd: int) -> bytes:
    """What the ring holds, oldest first; bytes of unknown trust, possibly torn at the front."""
    raw = os.pread(fd, SIZE, 0)
    (written,) = _HEADER.unpack_from(raw, 0)
    body, room = raw[_HEADER.size :], SIZE - _HEADER.size
    if written <= room:
        return body[:written]
    cut = written % room
    return body[cut:] + body[:cut]


def since(fd: int, position: int) -> tuple[bytes, int]:
    """What was written after `position`, as far as it is still there, and the position to go on from; 0 is the start.

    A position that is ahead of the ring's belongs to another one, and counts as 0.
    """
    (written,) = _HEADER.unpack(os.pread(fd, _HEADER.size, 0))
    fresh = written - position if position <= written else written
    return (read(fd)[-fresh:] if fresh else b""), written


def tail(fd: int, lines: int) -> tuple[str, ...]:
    """The last lines as text, control characters replaced."""
    text = read(fd).decode("utf-8", "replace")
    rows = [line for line in text.splitlines() if line.strip()][-lines:]
    return tuple("".join(char if char.isprintable() else "�" for char in row)[:400] for row in rows)
