"""The last bytes of a stream, by their offset from its beginning. Pure."""

from __future__ import annotations


class Lost(Exception):
    """What is asked for is on the tape no more."""


class Tape:
    """Bytes `floor` to `end` of a stream; never more than `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.floor = 0
        self._limit = limit
        self._kept = bytearray()

    @property
    def end(self) -> int:
        """The length of the stream so far."""
        return self.floor + len(self._kept)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self._kept)

    def write(self, data: bytes) -> None:
        self._kept += data
        self.trim(self._limit)

    def trim(self, most: int) -> None:
        """Forgets all but the last `most` bytes."""
        if (surplus := len(self._kept) - most) > 0:
            del self._kept[:surplus]
            self.floor += surplus

    def read(self, start: int, most: int) -> bytes:
        """Up to `most` bytes from the offset `start` on; none at the end. Raises Lost."""
        if start < self.floor:
            raise Lost
        at = start - self.floor
        return bytes(self._kept[at : at + most])
