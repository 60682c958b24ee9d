"""The sequences of a context: who runs, who is kept for reuse, who must go when cells run short. Pure. ENGINE.md, 5, 6.

A sequence keeps its cells when its request ends, so that the next prompt with the same beginning need not compute it
again. The ledger (a PrefixTree) is the engine's truth about the cache: it changes together with the cache, which
`Memory` stands for, and counts cells only after a decode has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

import numpy as np

from worker.adapter_set import BARE, AdapterSet
from worker.prefix_tree import Ids, Match, PrefixTree, State

_TAIL = 32  # a kept sequence that goes on for less than this behind the match is cut rather than copied


class Memory(Protocol):
    """What the cache can do with the cells of a sequence."""

    def usable(self, id: int, length: int) -> bool:
        """Whether the sequence could go on from its first `length` positions, of more that it holds."""

    def copy(self, source: int, target: int, length: int) -> None:
        """The target shares the source's first `length` positions."""

    def cut(self, id: int, length: int) -> None:
        """Frees the positions from `length` on."""

    def restore(self, id: int, state: State, length: int) -> None:
        """Puts a checkpoint of `length` positions into a sequence that holds as many, or more."""


class Sequence:
    """A sequence that runs. `tokens[:size]` is its text so far, `tokens[:held]` lies in the cache; id -1: not now.

    `lane` is its place among those that run, from 0: what clients know as a slot. `adapters`: see worker.adapter_set.
    """

    __slots__ = ("adapters", "held", "id", "lane", "size", "tokens")

    def __init__(
        self, tokens: Several[int] | Ids, n_ctx: int, id: int = -1, lane: int = 0, adapters: AdapterSet = BARE
    ) -> None:
        self.id, self.lane, self.adapters = id, lane, adapters
        self.tokens: Ids = np.zeros(n_ctx, np.int32)
        self.size = len(tokens)
        self.tokens[: self.size] = tokens
        self.held = 0

    @property
    def missing(self) -> int:
        """Tokens that still need a row."""
        return self.size - self.held

    @property
    def text(self) -> Ids:
        return self.tokens[: self.size]

    def append(self, token: int) -> None:
        self.tokens[self.size] = token
        self.size += 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prompt can begin: behind the first `length` positions of `source` (-1: nowhere).

    takes: it becomes that sequence, which is kept; otherwise it shares those cells. state: the checkpoint that makes
    those positions usable. evict: who goes for it. match: so much of the prompt lies in the cache, usable or not.
    """

    source: int
    length: int
    takes: bool
    state: State | None = None
    evict: tuple[int, ...] = ()
    match: int = 0


NOWHERE = Place(-1, 0, takes=False)


class Pool:
    """All ids and cells. The last id of the context is left to parking and is not given out."""

    def __init__(self, memory: Memory, ids: int, cells: int, n_ctx: int) -> None:
        self.tree = PrefixTree()
        self.cells, self.n_ctx = cells, n_ctx
        self.live: set[int] = set()
        self.evicted: Callable[[int], None] = lambda id: None  # told before a kept sequence goes
        self._memory = memory
        self._free = list(range(ids))[::-1]
        self._kept: dict[int, None] = {}  # the least recently used first
        self._lanes: set[int] = set()

    @property
    def room(self) -> int:
        """Cells that nobody holds."""
        return self.cells - self.tree.cells

    @property
    def most_room(self) -> int:
        """Cells that nobody would hold if no sequence were kept."""
        return self.room + self.tree.freed(set(self._kept))

    @property
    def kept(self) -> tuple[int, ...]:
        """Ids of ended sequences, the least recently used first."""
        return tuple(self._kept)

    # -- beginning ------------------------------------------------------------------------------------------------

    def find(self, tokens: Ids, cells: int, adapters: AdapterSet = BARE, *, reuse: bool = True) -> Place | None:
        """Where these tokens can begin so that `cells` more than they need stay free; None if there is no room.

        At least one token is left to compute, since only a computed row has logits.
        """
        matches = list(self.tree.matches(tokens[:-1], adapters))
        longest = max((match.length for match in matches), default=0)
        for place in self._places(matches) if reuse else [NOWHERE]:
            evict = self._victims(place, len(tokens) - place.length + cells)
            if evict is not None:
                return replace(place, evict=evict, match=longest)
        return None

    def open(self, place: Place, tokens: Several[int] | Ids, adapters: AdapterSet = BARE) -> Sequence:
        """Takes the place, which was found for this set; the sequence holds its first `length` tokens."""
        for id in place.evict:
            self.evict(id)
        id = place.source if place.takes else self._free.pop()
        sequence = Sequence(tokens, self.n_ctx, id, self._lane(), adapters)
        sequence.held = place.length
        self.live.add(id)
        if place.takes:
            del self._kept[id]
        elif place.source >= 0:
            self._memory.copy(place.source, id, place.length)
            self.tree.fork(place.source, id, place.length)
        if place.state is not None:
            self._memory.restore(id, place.state, place.length)
        if self.tree.length(id) > place.length:
            self._memory.cut(id, place.length)
            self.tree.truncate(id, place.length)
        return sequence

    def reserve(self) -> Sequence | None:
        """A sequence that holds nothing yet; None if no id is left."""
        place = self.find(np.zeros(1, np.int32), 0, reuse=False)
        return self.open(place, ()) if place else None

    def share(self, source: Sequence, target: Sequence) -> None:
        """The target, which holds nothing, goes on from all that the source holds."""
        target.tokens[: source.size] = source.text
        target.size, target.held, target.adapters = source.size, source.held, source.adapters
        self._memory.copy(source.id, target.id, source.held)
        self.tree.fork(source.id, target.id, source.held)

    # -- running --------------------------------------------------------------------------------------------------

    def commit(self, sequence: Sequence, rows: int) -> None:
        """The next `rows` tokens of the sequence have been computed."""
        end = sequence.held + rows
        self.tree.extend(sequence.id, sequence.tokens[sequence.held : end], sequence.adapters)
        sequence.held = end

    def cut(self, sequence: Sequence, length: int) -> None:
        """The cache holds no more than the first `length` tokens."""
        if length < sequence.held:
            self._memory.cut(sequence.id, length)
            self.tree.truncate(sequence.id, length)
            sequence.held = length

    def mark(self, sequence: Sequence, state: State) -> None:
        """A checkpoint of what the sequence holds now."""
        self.tree.mark(sequence.id, state)

    def make_room(self, cells: int) -> bool:
        """Evicts kept sequences until so many cells are free; whether there are now."""
        while self.room < cells and self._kept:
            self.evict(next(iter(self._kept)))
        return self.room >= cells

    # -- ending ---------------------------------------------------------------------------------------------------

    def close(self, sequence: Sequence, *, keep: bool = True) -> None:
        """The sequence runs no more; what the cache holds of it stays for reuse, unless `keep` is False."""
        self.live.remove(sequence.id)
        self._lanes.remove(sequence.lane)
        if keep and sequence.held:
            self._kept[sequence.id] = None
        else:
            self._drop(sequence.id)
        sequence.id = -1

    def evict(self, id: int) -> None:
        """A kept sequence goes."""
        self.evicted(id)
        del self._kept[id]
        self._drop(id)

    def evict_all(self) -> bool:
        """Every kept sequence goes; whether there was one."""
        kept = self.kept
        for id in kept:
            self.evict(id)
        return bool(kept)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _lane(self) -> int:
        """The first free one."""
        lane = next(lane for lane in count() if lane not in self._lanes)
        self._lanes.add(lane)
        return lane

    def _drop(self, id: int) -> None:
        self._memory.cut(id, 0)
        self.tree.truncate(id, 0)
        self._free.append(id)

    def _places(self, matches: list[Match]) -> list[Place]:
        """Where a prompt with these matches could begin, the best first."""
        best = max(matches, key=lambda match: match.length, default=None)
        usable = [id for id in best.run.holders if self._usable(id, best.length)] if best else []
        if best and usable:
            return [*self._at(usable, best.length), NOWHERE]
        before = [place for match in matches for place in self._before(match)]
        return [*sorted(before, key=lambda place: -place.length), NOWHERE]

    def _usable(self, id: int, length: int) -> bool:
        return self.tree.length(id) == length or self._memory.usable(id, length)

    def _at(self, ids: list[int], length: int) -> list[Place]:
        """Behind the first `length` positions that these sequences hold."""
        share = Place(min(ids), length, takes=False)
        kept = [id for id in ids if id in self._kept]
        if not kept:
            return [share]
        nearest = min(kept, key=self.tree.length)
        take = Place(nearest, length, takes=True)
        return [take, share] if self.tree.length(nearest) - length < _TAIL else [share, take]

    def _before(self, match: Match) -> Iterator[Place]:
        """Where a state is known within a match."""
        if match.length == match.run.end:
            for id in self.tree.ending(match.run):
                yield Place(id, match.length, takes=id in self._kept)
        if (found := match.checkpoint) is not None:
            position, state = found
            yield Place(min(match.run.holders), position, takes=False, state=state)
            for id in match.run.holders & self._kept.keys():
                yield Place(id, position, takes=True, state=state)

    def _victims(self, place: Place, cells: int) -> tuple[int, ...] | None:
        """Kept sequences that must go so that an id and so many cells are free; None if all do not suffice."""
        freed = 0
        if place.takes:
            freed = min(self.tree.own(place.source), self.tree.length(place.source) - place.length)
        gone: set[int] = set()
        for id in (*self._kept, None):
            if (place.takes or gone or self._free) and self.room + freed + self.tree.freed(gone) >= cells:
                return tuple(gone)
            if id is not None and id != place.source:
                gone.add(id)
        return None
