"""A request for vectors on its way through the engine: which input comes next, and its results as events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from worker.embed.vectors import Vectors, finish
from worker.protocol import Embed, Event, Finished, Started, Timings, Vector
from worker.seams import Passages

_EVENT = 2**20  # bytes of numbers in one event; a frame holds 16 of them


class Work:
    """`next` is the first input that is not computed, `offset` how many of its tokens are computed already."""

    __slots__ = ("_normalize", "_parts", "_seconds", "begun", "next", "offset", "passages")

    def __init__(self, passages: Passages, normalize: int) -> None:
        """`normalize` is for requests that do not say."""
        self.passages = passages
        self.next = self.offset = 0
        self._parts: list[Vectors] = []  # of an input that takes several steps, one row for each token
        self._seconds = 0.0
        self.begun = False
        request = passages.request
        said = request.normalize if isinstance(request, Embed) else -1
        self._normalize = normalize if said is None else said

    @property
    def id(self) -> int:
        return self.passages.key[1]

    @property
    def done(self) -> bool:
        return self.next == len(self.passages.inputs)

    @property
    def lengths(self) -> Iterator[int]:
        """Of the inputs that are to be computed."""
        return (len(self.passages.inputs[at]) for at in range(self.next, len(self.passages.inputs)))

    def begin(self) -> list[Event]:
        """Its first input is in the next batch."""
        if self.begun:
            return []
        self.begun = True
        return [Started(self.id, 0)]

    def spent(self, seconds: float) -> None:
        """A batch that held some of its rows took so long."""
        self._seconds += seconds

    def kept(self, rows: Vectors | None, tokens: int) -> None:
        """A part of the next input is computed; `rows` are its vectors if there is one for each token."""
        self.offset += tokens
        if rows is not None:
            self._parts.append(rows)

    def take(self, rows: Vectors) -> list[Event]:
        """The next input's vectors, or the last part of them."""
        found, self._parts = np.concatenate([*self._parts, rows]) if self._parts else rows, []
        request = self.passages.request
        dimensions = request.dimensions if isinstance(request, Embed) else 0
        vectors = finish(found, dimensions, self._normalize)
        events = list(_events(self.id, self.next, vectors))
        self.next, self.offset = self.next + 1, 0
        return [*events, self._finished()] if self.done else events

    def _finished(self) -> Event:
        tokens = sum(map(len, self.passages.inputs))
        return Finished(self.id, "done", "", Timings(prompt_n=tokens, prompt_ms=self._seconds * 1000))


def _events(id: int, number: int, vectors: Vectors) -> Iterator[Event]:
    width = vectors.shape[1]
    rows = max(1, _EVENT // (4 * width))
    for start in range(0, len(vectors), rows):
        yield Vector(id, number, width, vectors[start : start + rows].tobytes())
