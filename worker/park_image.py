"""Segments in one file: what a worker leaves to the next one of its model, or a slot's state. ENGINE.md, 5.

The file may be a memfd that the root keeps from one worker to the next, or lie in a folder. Layout: head (magic, place,
length and CRC-32 of the index), the states as they came, the index (msgpack). The head is written last, so that what
was not finished is no image. A file of another model, context or build, or one that is cut or damaged, is never used:
the fingerprint must be the same, and each state's length and CRC-32 must fit.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from worker.adapter_set import BARE, AdapterSet
from worker.parked import Parked, Segment
from worker.prefix_tree import State

_MAGIC = b"LSVPARK2"
_HEAD = struct.Struct("!8sQQI")
_PACE = 500e6  # bytes a second that a file surely takes


class ImageError(Exception):
    """No image of this model, or a damaged one."""


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What a slot's state is of: the model's name, and the LoRA adapters with which it was computed."""

    model: str = ""
    adapters: AdapterSet = BARE


class Foreign(ImageError):
    """Of another model, context or build. `note` is what its writer noted in it."""

    def __init__(self, note: Note) -> None:
        super().__init__("of another model, context or build")
        self.note = note


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """A segment, and where its state lies: bytes behind the head."""

    parent: bytes
    start: int
    tokens: bytes
    offset: int
    size: int
    crc: int


class _Index(msgspec.Struct, frozen=True, array_like=True):
    fingerprint: bytes
    records: list[_Record]
    note: Note = Note()


class _File:
    """An open image; closed when no segment needs it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = os.dup(fd)

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Filed:
    """A state in an image."""

    file: _File
    offset: int
    size: int
    crc: int

    def read(self) -> bytes | None:
        """None if it is damaged, or cannot be read."""
        try:
            data = os.pread(self.file.fd, self.size, self.offset)
        except OSError:
            return None
        return data if len(data) == self.size and zlib.crc32(data) == self.crc else None


_NOTHING = Note()


class Writer:
    """Writes an image into an empty file. Every method raises OSError."""

    def __init__(self, fd: int, fingerprint: bytes, note: Note = _NOTHING) -> None:
        self.size = 0  # bytes of states
        self._fd, self._fingerprint, self._note = fd, fingerprint, note
        self._records: list[_Record] = []
        _write(fd, bytes(_HEAD.size))

    def __len__(self) -> int:
        return len(self._records)

    def add(self, segment: Segment, data: State) -> None:
        """What it follows must have been added before."""
        _write(self._fd, data)
        tokens = segment.tokens.astype("<i4").tobytes()
        record = _Record(segment.parent, segment.start, tokens, self.size, len(data), zlib.crc32(data))
        self._records.append(record)
        self.size += len(data)

    def finish(self) -> int:
        """Now it is an image; the bytes of the whole file."""
        index = msgspec.msgpack.encode(_Index(self._fingerprint, self._records, self._note))
        _write(self._fd, index)
        place = _HEAD.size + self.size
        os.pwrite(self._fd, _HEAD.pack(_MAGIC, place, len(index), zlib.crc32(index)), 0)
        return place + len(index)


def write(fd: int, fingerprint: bytes, parked: Parked, limit: int, until: float) -> int:
    """Writes the most valuable segments, at most `limit` bytes and what `until` (monotonic) leaves time for.

    Returns how many segments. Raises OSError.
    """
    writer = Writer(fd, fingerprint)
    written: set[bytes] = set()
    for segment, state in parked:
        if (segment.start and segment.parent not in written) or writer.size + state.size > limit:
            continue  # without what it follows it is of no use
        if time.monotonic() + state.size / _PACE > until:
            break
        if (data := state.read()) is not None:
            written.add(segment.name)
            writer.add(segment, data)
    writer.finish()
    return len(writer)


def read(fd: int, fingerprint: bytes, parked: Parked) -> int:
    """Puts the segments of an image into the store; their states stay in the file until they are used; how many.

    Raises ImageError and OSError.
    """
    found = list(segments(fd, fingerprint))
    for segment, state in found[::-1]:  # the most valuable is put last: it goes last
        parked.put(segment, state)
    return len(found)


def segments(fd: int, fingerprint: bytes) -> Iterator[tuple[Segment, Filed]]:
    """What is in an image, in the order of its writing; the states are not read yet. Raises ImageError and OSError."""
    index = _index(fd)
    if index.fingerprint != fingerprint:
        raise Foreign(index.note)
    file, size = _File(fd), os.fstat(fd).st_size
    for record in index.records:
        place = _HEAD.size + record.offset
        if min(record.offset, record.size) < 0 or place + record.size > size or len(record.tokens) % 4:
            raise ImageError("cut off")
        tokens = np.frombuffer(record.tokens, "<i4").astype(np.int32)
        yield Segment(record.parent, record.start, tokens), Filed(file, place, record.size, record.crc)


def note(fd: int) -> Note:
    """What the writer of an image noted in it. Raises ImageError and OSError."""
    return _index(fd).note


def _index(fd: int) -> _Index:
    size = os.fstat(fd).st_size
    magic, place, length, crc = _HEAD.unpack(_read(fd, _HEAD.size, 0))
    if magic != _MAGIC:
        raise ImageError("no image")
    if place + length > size:
        raise ImageError("cut off")
    data = _read(fd, length, place)
    if zlib.crc32(data) != crc:
        raise ImageError("index damaged")
    try:
        return msgspec.msgpack.decode(data, type=_Index)
    except msgspec.DecodeError as error:
        raise ImageError(f"index not readable: {error}") from None


def _write(fd: int, data: State) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read(fd: int, size: int, offset: int) -> bytes:
    data = os.pread(fd, size, offset)
    if len(data) < size:
        raise ImageError("cut off")
    return data
