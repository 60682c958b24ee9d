"""Which tokens lie in the cells of the KV cache, and which sequences hold them. Pure. ENGINE.md, 5.

A run is a stretch of cells with consecutive positions. It mirrors what `seq_cp` and `seq_rm` do to the cache: a
sequence is a path of runs, a shared prefix is a run that several sequences hold, and its cells count once. Whoever
holds a run holds its parents too. Two runs with the same tokens may stand side by side, if both were computed. There
is a tree for each set of LoRA adapters: what one set computed is never a match for another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from worker.adapter_set import BARE, AdapterSet

Ids = npt.NDArray[np.int32]
State = bytes | memoryview
_LEAST = 64  # tokens a new run has room for


@dataclass(slots=True, eq=False)
class Run:
    """Cells for positions `start` … `end` - 1. `checkpoints` are states at positions in (start, end]."""

    parent: Run | None
    start: int
    buffer: Ids
    size: int = 0
    holders: set[int] = field(default_factory=set)
    children: list[Run] = field(default_factory=list)
    checkpoints: dict[int, State] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def tokens(self) -> Ids:
        return self.buffer[: self.size]

    @property
    def path(self) -> Iterator[Run]:
        """This run and those before it, backwards; without the root."""
        run: Run = self
        while run.parent is not None:
            yield run
            run = run.parent

    def append(self, tokens: Ids) -> None:
        size = self.size + len(tokens)
        if size > len(self.buffer):
            grown = np.zeros(max(2 * len(self.buffer), size), np.int32)
            grown[: self.size] = self.tokens
            self.buffer = grown
        self.buffer[self.size : size] = tokens
        self.size = size

    def split(self, position: int) -> None:
        """Leaves the part before `position` here; the rest becomes the only child."""
        at = position - self.start
        rest = Run(self, position, self.buffer[at : self.size].copy(), self.size - at, set(self.holders), self.children)
        rest.checkpoints = {at: state for at, state in self.checkpoints.items() if at > position}
        for child in rest.children:
            child.parent = rest
        self.size, self.children = at, [rest]
        self.checkpoints = {at: state for at, state in self.checkpoints.items() if at <= position}


@dataclass(frozen=True, slots=True)
class Match:
    """So many of a prompt's first tokens lie in the cells of `run` and the runs before it."""

    length: int
    run: Run

    @property
    def checkpoint(self) -> tuple[int, State] | None:
        """The run's last checkpoint within the match: its position and the state."""
        fitting = [position for position in self.run.checkpoints if position <= self.length]
        return (max(fitting), self.run.checkpoints[max(fitting)]) if fitting else None


class PrefixTree:
    """The paths of all sequences."""

    def __init__(self) -> None:
        self._roots: dict[AdapterSet, Run] = {}
        self._leaves: dict[int, Run] = {}
        self.cells = 0

    def length(self, id: int) -> int:
        """Positions that the sequence holds."""
        leaf = self._leaves.get(id)
        return leaf.end if leaf else 0

    def tokens(self, id: int) -> Ids:
        """All tokens of the sequence."""
        runs = [run.tokens for run in self._path(id)]
        return np.concatenate(runs[::-1]) if runs else np.zeros(0, np.int32)

    def adapters(self, id: int) -> AdapterSet:
        """With which set the sequence was computed."""
        top = [*self._path(id)][-1:]
        return next((adapters for adapters, root in self._roots.items() if top and root is top[0].parent), BARE)

    def own(self, id: int) -> int:
        """Cells that nobody else holds: what dropping the sequence would free."""
        cells = 0
        for run in self._path(id):
            if len(run.holders) > 1:
                break
            cells += run.size
        return cells

    def freed(self, ids: set[int]) -> int:
        """Cells that nobody but these sequences holds: what dropping all of them would free."""
        return sum(run.size for run in self._runs() if run.holders <= ids)

    def match(self, prompt: Ids, adapters: AdapterSet = BARE) -> Match:
        """The longest beginning of the prompt that lies in the cache."""
        return max(self.matches(prompt, adapters), key=lambda match: match.length, default=Match(0, _root()))

    def matches(self, prompt: Ids, adapters: AdapterSet = BARE) -> Iterator[Match]:
        """A match for each run that holds a part of the prompt behind what the runs before it hold."""
        open_ = [self._roots[adapters]] if adapters in self._roots else []
        while open_:
            for child in open_.pop().children:
                length = child.start + common(child.tokens, prompt[child.start :])
                if length > child.start:
                    yield Match(length, child)
                if length == child.end:
                    open_.append(child)

    def ending(self, run: Run) -> list[int]:
        """The sequences that end where the run ends."""
        return [id for id in run.holders if self._leaves[id] is run]

    def last_checkpoint(self, id: int) -> tuple[int, State] | None:
        """The last checkpoint of a sequence before its end: its position and the state."""
        end = self.length(id) - 1
        found = (Match(end, run).checkpoint for run in self._path(id))
        return next((each for each in found if each), None)

    def mark(self, id: int, state: State) -> None:
        """Puts a checkpoint at the end of a sequence."""
        leaf = self._leaves[id]
        leaf.checkpoints[leaf.end] = state

    def extend(self, id: int, tokens: Ids, adapters: AdapterSet = BARE) -> None:
        """The sequence has computed more tokens, always with the same set."""
        leaf = self._leaves.get(id) or self._roots.setdefault(adapters, _root())
        if leaf.parent is None or leaf.children or len(leaf.holders) > 1:
            run = Run(leaf, leaf.end, np.zeros(max(_LEAST, len(tokens)), np.int32), holders={id})
            leaf.children.append(run)
            self._leaves[id] = leaf = run
        leaf.append(tokens)
        self.cells += len(tokens)

    def fork(self, source: int, target: int, length: int) -> None:
        """The target, which holds nothing, now shares the source's first `length` positions."""
        assert target not in self._leaves, f"sequence {target} holds something"
        run = self._cut_at(source, length)
        if run is None:
            return
        for each in run.path:
            each.holders.add(target)
        self._leaves[target] = run

    def truncate(self, id: int, length: int) -> None:
        """The sequence gives up all positions from `length` on."""
        if length >= self.length(id):
            return
        keep = self._cut_at(id, length)
        left = [run for run in self._path(id) if run.start >= length]
        for run in left:
            run.holders.discard(id)
            if not run.holders:
                self._remove(run)
        if keep is None:
            del self._leaves[id]
        else:
            self._leaves[id] = keep
            left.append(keep)
        for run in left:
            self._join(run)

    def clear(self) -> None:
        """Nobody holds anything."""
        self._roots.clear()
        self._leaves.clear()
        self.cells = 0

    # -- parts ----------------------------------------------------------------------------------------------------

    def _runs(self) -> Iterator[Run]:
        open_ = [run for root in self._roots.values() for run in root.children]
        while open_:
            run = open_.pop()
            yield run
            open_ += run.children

    def _path(self, id: int) -> Iterator[Run]:
        leaf = self._leaves.get(id)
        return leaf.path if leaf else iter(())

    def _cut_at(self, id: int, length: int) -> Run | None:
        """The run of the sequence that ends at `length`, made by a split if need be; None for 0."""
        for run in self._path(id):
            if run.start < length <= run.end:
                if length < run.end:
                    self._split(run, length)
                return run
        return None

    def _split(self, run: Run, position: int) -> None:
        run.split(position)
        (rest,) = run.children
        for id in rest.holders:
            if self._leaves[id] is run:
                self._leaves[id] = rest

    def _remove(self, run: Run) -> None:
        assert not run.children, "a run outlives its holders"
        assert run.parent is not None
        run.parent.children.remove(run)
        self.cells -= run.size
        if run.parent.parent is None and not run.parent.children:
            self._roots = {adapters: root for adapters, root in self._roots.items() if root.children}

    def _join(self, run: Run) -> None:
        """Undoes a split that nobody needs any more."""
        if len(run.children) != 1 or run.children[0].holders != run.holders:  # a removed run has no children
            return
        (rest,) = run.children
        run.append(rest.tokens)
        run.children, run.checkpoints = rest.children, run.checkpoints | rest.checkpoints
        for child in run.children:
            child.parent = run
        for id in run.holders:
            if self._leaves[id] is rest:
                self._leaves[id] = run


def _root() -> Run:
    return Run(None, 0, np.zeros(0, np.int32))


def common(ours: Ids, theirs: Ids) -> int:
    """Length of the common beginning."""
    size = min(len(ours), len(theirs))
    if size == 0 or ours[0] != theirs[0]:
        return 0
    differs = np.flatnonzero(ours[:size] != theirs[:size])
    return int(differs[0]) if len(differs) else size
