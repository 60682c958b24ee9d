"""States of sequences outside the cache: segments of 256 tokens in memory, under a budget. Pure. ENGINE.md, 5.

A segment is named by the hash of its parent's name and its tokens, so that a prefix which several sequences share is
stored once. Where a state cannot be cut (`exact`), one segment is a whole sequence, and fits only as a whole. `root`
is the name before the first segment: states of another set of LoRA adapters have another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from worker.prefix_tree import Ids, common

SEGMENT = 256  # tokens
ROOT = b""


class State(Protocol):
    """What llama.cpp gave for a segment, wherever it lies."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self) -> bytes | memoryview | None:
        """None if it is damaged."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """A state in this process's memory."""

    data: bytes | memoryview

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self) -> bytes | memoryview:
        return self.data


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The state of positions `start` … `start + len(tokens)` - 1, which follow the parent's."""

    parent: bytes
    start: int
    tokens: Ids

    @property
    def name(self) -> bytes:
        return hashlib.blake2b(self.parent + self.tokens.tobytes(), digest_size=16).digest()

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Hit:
    """The first `length` tokens of a segment fit a prompt."""

    name: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class Parked:
    """All segments; the least recently used go when the budget (bytes of state) is exceeded."""

    def __init__(self, budget: int, *, exact: bool = False) -> None:
        self.budget, self.exact = budget, exact
        self.size = 0
        self._segments: dict[bytes, tuple[Segment, State]] = {}  # the least recently used first
        self._children: dict[bytes, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[tuple[Segment, State]]:
        """The most recently used first, parents before their children."""
        return iter(list(self._segments.values())[::-1])

    def absent(self, tokens: Ids, root: bytes = ROOT) -> list[Segment]:
        """What must be stored so that all these tokens are; those that are stored count as used."""
        segments = list(self._chain(tokens, root))
        for segment in segments[::-1]:
            self._touch(segment.name)
        return [segment for segment in segments if segment.name not in self._segments]

    def put(self, segment: Segment, state: State) -> None:
        """Stores a segment, unless it alone exceeds the budget."""
        name = segment.name
        if name in self._segments or state.size > self.budget:
            return
        self._segments[name] = (segment, state)
        self._children.setdefault(segment.parent, []).append(name)
        self.size += state.size
        for parent in self._parents(segment):  # never older than their children
            self._touch(parent)
        while self.size > self.budget:
            self._drop(next(iter(self._segments)))

    def match(self, tokens: Ids, root: bytes = ROOT) -> list[Hit]:
        """The segments, in order, that hold the longest beginning of these tokens."""
        hits: list[Hit] = []
        parent, at = root, 0
        while (hit := self._best(parent, tokens[at:])) is not None:
            hits.append(hit)
            at += hit.length
            parent = hit.name
            if self.exact or hit.length < SEGMENT:
                break
        return hits

    def read(self, name: bytes) -> bytes | memoryview | None:
        """The state; the segment counts as used. None if it has gone meanwhile, or is damaged."""
        if name not in self._segments:
            return None
        segment, state = self._segments[name]
        data = state.read()
        if data is None:
            self._drop(name)
            return None
        self._touch(name)
        for parent in self._parents(segment):
            self._touch(parent)
        return data

    # -- parts ----------------------------------------------------------------------------------------------------

    def _chain(self, tokens: Ids, parent: bytes) -> Iterator[Segment]:
        step = max(len(tokens), 1) if self.exact else SEGMENT
        for start in range(0, len(tokens), step):
            segment = Segment(parent, start, tokens[start : start + step].copy())
            yield segment
            parent = segment.name

    def _best(self, parent: bytes, tokens: Ids) -> Hit | None:
        best = None
        for name in self._children.get(parent, ()):
            segment, _ = self._segments[name]
            length = common(segment.tokens, tokens)
            if self.exact and length < len(segment.tokens):
                continue
            if length > (best.length if best else 0):
                best = Hit(name, segment.start, length)
        return best

    def _parents(self, segment: Segment) -> Iterator[bytes]:
        while segment.parent in self._segments:
            yield segment.parent
            segment, _ = self._segments[segment.parent]

    def _touch(self, name: bytes) -> None:
        if (found := self._segments.pop(name, None)) is not None:
            self._segments[name] = found

    def _drop(self, name: bytes) -> None:
        segment, state = self._segments.pop(name)
        self._children[segment.parent].remove(name)
        if not self._children[segment.parent]:
            del self._children[segment.parent]
        self.size -= state.size
