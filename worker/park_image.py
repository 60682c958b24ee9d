"""Parked segments as one file: written by a worker that stops, read by the next one of the same model. ENGINE.md, 5.

The file may be a memfd that the root keeps from one worker to the next, or lie in a folder. Layout: magic, length of
the index, the index (msgpack), the states. A file of another model, context or build, or one that is cut or damaged,
is never used: the fingerprint must be the same, each state's length and CRC-32 must fit.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from dataclasses import dataclass

import msgspec
import numpy as np

from worker.parked import Parked, Segment
from worker.prefix_tree import State

_MAGIC = b"LSVPARK1"
_HEAD = struct.Struct("!8sQ")
_PACE = 500e6  # bytes a second that a file surely takes


class ImageError(Exception):
    """No image of this model, or a damaged one."""


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A segment, and where its state lies: bytes behind the index."""

    parent: bytes
    start: int
    tokens: bytes
    offset: int
    size: int
    crc: int


class _Index(msgspec.Struct, frozen=True, array_like=True):
    fingerprint: bytes
    records: list[_Record]


class _File:
    """An open image; closed when no segment needs it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class _Filed:
    """A state in an image."""

    file: _File
    offset: int
    size: int
    crc: int

    def read(self) -> bytes | None:
        try:
            data = os.pread(self.file.fd, self.size, self.offset)
        except OSError:
            return None
        return data if len(data) == self.size and zlib.crc32(data) == self.crc else None


def write(fd: int, fingerprint: bytes, parked: Parked, limit: int, until: float) -> int:
    """Writes the most valuable segments, at most `limit` bytes and what `until` (monotonic) leaves time for.

    Returns how many segments. Raises OSError.
    """
    chosen, records, offset = [], [], 0
    written: set[bytes] = set()
    for segment, state in parked:
        if (segment.start and segment.parent not in written) or offset + state.size > limit:
            continue  # without what it follows it is of no use
        if time.monotonic() + offset / _PACE > until:
            break
        if (data := state.read()) is None:
            continue
        written.add(segment.name)
        tokens = segment.tokens.astype("<i4").tobytes()
        records.append(_Record(segment.parent, segment.start, tokens, offset, len(data), zlib.crc32(data)))
        chosen.append(data)
        offset += len(data)
    index = msgspec.msgpack.encode(_Index(fingerprint, records))
    for part in (_HEAD.pack(_MAGIC, len(index)), index, *chosen):
        _write(fd, part)
    return len(records)


def read(fd: int, fingerprint: bytes, parked: Parked) -> int:
    """Puts the segments of an image into the store; their states stay in the file until they are used; how many.

    Raises ImageError and OSError.
    """
    size = os.fstat(fd).st_size
    magic, length = _HEAD.unpack(_read(fd, _HEAD.size, 0))
    if magic != _MAGIC or _HEAD.size + length > size:
        raise ImageError("no image")
    try:
        index = msgspec.msgpack.decode(_read(fd, length, _HEAD.size), type=_Index)
    except msgspec.DecodeError as error:
        raise ImageError(f"index not readable: {error}") from None
    if index.fingerprint != fingerprint:
        raise ImageError("of another model, context or build")
    file, base = _File(fd), _HEAD.size + length
    for record in index.records[::-1]:  # the most valuable is put last: it goes last
        if base + record.offset + record.size > size:
            raise ImageError("cut off")
        tokens = np.frombuffer(record.tokens, "<i4").astype(np.int32)
        state = _Filed(file, base + record.offset, record.size, record.crc)
        parked.put(Segment(record.parent, record.start, tokens), state)
    return len(index.records)


def _write(fd: int, data: State) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read(fd: int, size: int, offset: int) -> bytes:
    data = os.pread(fd, size, offset)
    if len(data) < size:
        raise ImageError("cut off")
    return data
