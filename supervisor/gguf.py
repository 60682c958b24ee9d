"""The header of a GGUF file: bytes → Header, or GgufError for any bytes that are none.

Versions 2 and 3 of the format, little-endian (ggml's docs/gguf.md). Every count and length is checked against a bound
and against the bytes there are before anything is made of it. Arrays are kept as bytes and decoded when asked for, as a
vocabulary has hundreds of thousands of entries. The root calls none of this: files are read in the scan child.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass, field
from math import prod

from supervisor.ggml_types import BLOCKS

MAX_HEADER = 256 * 2**20  # bytes; the largest vocabularies take about 20 MiB
MAX_KEYS = 65_536
MAX_TENSORS = 262_144
MAX_NAME = 65_535  # bytes of a key or a tensor's name
MAX_DEPTH = 4  # of arrays in arrays
MAX_DIMENSIONS = 4
_FIRST_READ = 2 * 2**20  # the vocabulary of most models makes the header larger than 1 MiB
_ALIGNMENT = 32

_UINT8, _INT8, _UINT16, _INT16, _UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64, _INT64, _FLOAT64 = range(13)
_FORMATS = {
    _UINT8: "B", _INT8: "b", _UINT16: "H", _INT16: "h", _UINT32: "I", _INT32: "i", _FLOAT32: "f", _BOOL: "?",
    _UINT64: "Q", _INT64: "q", _FLOAT64: "d",
}  # fmt: skip
FLOAT32 = _FLOAT32  # see Header.kinds
_LENGTH = struct.Struct("<Q")


class GgufError(Exception):
    """Not a usable GGUF header; the text says what is wrong with it."""


class Truncated(GgufError):
    """The bytes end inside the header."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array as it stands in the file: `count` values of one kind."""

    kind: int
    count: int
    data: bytes

    def values(self) -> tuple[Value, ...]:
        """All values, decoded."""
        cursor = _Cursor(self.data)
        if self.kind in _FORMATS:
            return struct.unpack(f"<{self.count}{_FORMATS[self.kind]}", self.data)
        return tuple(cursor.value(self.kind, 1) for _ in range(self.count))


Value = int | float | bool | str | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `shape` in elements, fastest dimension first; `offset` in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of its data."""
        block, size = BLOCKS[self.type]
        return self.elements // block * size


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata and tensors. `start` is where the tensors' data begins, in bytes from the start of the file.

    `kinds`: of the values, as the file spells them; llama.cpp ends the process at some keys of another kind.
    """

    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    start: int
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The size of a file that has all of it."""
        return max((self.start + tensor.offset + tensor.size for tensor in self.tensors), default=0)


def read(path: str) -> tuple[Header, os.stat_result]:
    """The header of a file, and the file's status. Raises GgufError, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not stop us
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise GgufError("not a regular file")
        header = _read(fd, status.st_size)
    finally:
        os.close(fd)
    if header.end > status.st_size:
        raise GgufError(f"incomplete: {header.end - status.st_size} bytes of its tensors are missing")
    return header, status


def _read(fd: int, size: int) -> Header:
    """Reads as much as the header needs, each time four times more."""
    data, wanted = b"", _FIRST_READ
    while True:
        while len(data) < min(wanted, size) and (piece := os.pread(fd, min(wanted, size) - len(data), len(data))):
            data += piece
        try:
            return parse(data)
        except Truncated:
            if len(data) >= size or len(data) < wanted:
                raise GgufError("incomplete: the file ends inside its header") from None
            if wanted >= MAX_HEADER:
                raise GgufError(f"the header is larger than {MAX_HEADER >> 20} MiB") from None
        wanted = min(wanted * 4, MAX_HEADER)


def parse(data: bytes) -> Header:
    """The header at the start of `data`. Raises Truncated where more bytes might help, else GgufError."""
    cursor = _Cursor(data)
    version, n_tensors, n_keys = _preamble(cursor)
    metadata: dict[str, Value] = {}
    kinds: dict[str, int] = {}
    for _ in range(n_keys):
        key = cursor.string(MAX_NAME)
        if key in metadata:
            raise GgufError(f"the key {_shown(key)} stands twice")
        kinds[key] = cursor.number("<I", 4)
        metadata[key] = cursor.value(kinds[key], 0)
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise GgufError("general.alignment is no power of two")
    tensors = tuple(_tensor(cursor, alignment) for _ in range(n_tensors))
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise GgufError("two tensors have the same name")
    return Header(version, metadata, tensors, -(-cursor.at // alignment) * alignment, kinds)


def _preamble(cursor: _Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of keys."""
    magic = cursor.take(4)
    if magic != b"GGUF":
        raise GgufError("not a GGUF file: it does not begin with GGUF")
    version = cursor.number("<I", 4)
    if version not in (2, 3):
        swapped = version & 0xFFFF == 0 and version >> 24 in (2, 3)
        raise GgufError("a big-endian GGUF file" if swapped else f"GGUF version {version}; known are 2 and 3")
    n_tensors, n_keys = cursor.number("<Q", 8), cursor.number("<Q", 8)
    if n_tensors > MAX_TENSORS:
        raise GgufError(f"{n_tensors} tensors; at most {MAX_TENSORS} are read")
    if n_keys > MAX_KEYS:
        raise GgufError(f"{n_keys} keys; at most {MAX_KEYS} are read")
    return version, n_tensors, n_keys


def _tensor(cursor: _Cursor, alignment: int) -> Tensor:
    name = cursor.string(MAX_NAME)
    dimensions = cursor.number("<I", 4)
    if dimensions > MAX_DIMENSIONS:
        raise GgufError(f"tensor {_shown(name)} has {dimensions} dimensions; at most {MAX_DIMENSIONS} are possible")
    shape = tuple(cursor.number("<Q", 8) for _ in range(dimensions))
    kind, offset = cursor.number("<I", 4), cursor.number("<Q", 8)
    if kind not in BLOCKS:
        raise GgufError(f"tensor {_shown(name)} has the unknown type {kind}")
    if prod(shape) >= 2**63 or offset >= 2**63:
        raise GgufError(f"tensor {_shown(name)} is impossibly large")
    if (shape[0] if shape else 1) % BLOCKS[kind][0]:
        raise GgufError(f"tensor {_shown(name)} has rows that are no whole blocks of its type")
    if offset % alignment:
        raise GgufError(f"tensor {_shown(name)} is not aligned")
    return Tensor(name, shape, kind, offset)


class _Cursor:
    """Reads on from `at`. Raises Truncated at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self._skip(count)
        return self.data[self.at - count : self.at]

    def number(self, code: str, size: int) -> int:
        number: int = struct.unpack(code, self.take(size))[0]
        return number

    def string(self, longest: int = MAX_HEADER) -> str:
        length = self.number("<Q", 8)
        if length > longest:
            raise GgufError(f"a text of {length} bytes; at most {longest} are read")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, depth: int) -> Value:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array(depth)
        if kind not in _FORMATS:
            raise GgufError(f"a value of the unknown kind {kind}")
        found: int | float | bool = struct.unpack(f"<{_FORMATS[kind]}", self.take(_width(kind)))[0]
        return found

    def _array(self, depth: int) -> Array:
        if depth >= MAX_DEPTH:
            raise GgufError(f"arrays nested deeper than {MAX_DEPTH}")
        kind, count = self.number("<I", 4), self.number("<Q", 8)
        if kind not in _FORMATS and kind not in (_STRING, _ARRAY):
            raise GgufError(f"an array of the unknown kind {kind}")
        if count > MAX_HEADER:
            raise GgufError(f"an array of {count} values; at most {MAX_HEADER} are read")
        begin = self.at
        if kind in _FORMATS:
            self._skip(count * _width(kind))
        elif kind == _STRING:
            self._skip_strings(count)
        else:
            for _ in range(count):
                self._array(depth + 1)
        return Array(kind, count, self.data[begin : self.at])

    def _skip(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise Truncated("the bytes end inside the header")
        self.at += count

    def _skip_strings(self, count: int) -> None:
        data, at, last, length = self.data, self.at, len(self.data) - 8, _LENGTH.unpack_from
        for _ in range(count):
            if at > last:
                raise Truncated("the bytes end inside an array")
            at += 8 + length(data, at)[0]
        if at > len(data):
            raise Truncated("the bytes end inside an array")
        self.at = at


def _width(kind: int) -> int:
    return struct.calcsize(f"<{_FORMATS[kind]}")


def _shown(name: str) -> str:
    return repr(name[:80])
