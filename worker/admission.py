"""Who begins: a place in the line, an id and enough cells, for new requests and interrupted ones. ENGINE.md, 4 to 6."""

from __future__ import annotations

import time
from collections.abc import Sequence as Several
from dataclasses import dataclass

import numpy as np

from worker.adapter_set import BARE, AdapterSet
from worker.line import Entry, Line
from worker.parking import WORTH, Parking
from worker.prefix_tree import Ids, common
from worker.reply import Reply
from worker.seams import Job, Key
from worker.sequences import Pool, Sequence

_HEADROOM = 256  # cells that a request's output has at its beginning, at most
_GROWTH = 16  # cells kept free for each sequence that runs
_CLOSING = 4  # tokens at a prompt's end that often are others the next time
_INTERVAL = 2048  # tokens between checkpoints


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A request that has not begun; its prompt as an array, and what it is to be computed with."""

    job: Job
    tokens: Ids
    adapters: AdapterSet = BARE


@dataclass(frozen=True, slots=True)
class Begun:
    """A sequence for an Arrival or for an interrupted Reply; it holds `cached` tokens of its text.

    stops: lengths at which a checkpoint is wanted.
    """

    work: Arrival | Reply
    sequence: Sequence
    cached: int
    stops: tuple[int, ...]


class Admission:
    """The line before the pool. At most `parallel` sequences run."""

    def __init__(self, pool: Pool, parking: Parking, parallel: int) -> None:
        self.line: Line[Arrival | Reply] = Line()
        self._pool, self._parking, self._parallel = pool, parking, parallel

    def __len__(self) -> int:
        return len(self.line)

    @property
    def keys(self) -> list[Key]:
        """Of all requests that wait."""
        return [key for work in self.line for key in keys(work)]

    @property
    def replies(self) -> list[Reply]:
        """Those that were interrupted."""
        return [work for work in self.line if isinstance(work, Reply)]

    def add(self, job: Job, adapters: AdapterSet = BARE) -> None:
        arrival = Arrival(job, np.asarray(job.prompt, np.int32), adapters)
        self.line.add(arrival, job.request.owner, job.request.priority, time.monotonic())

    def add_again(self, reply: Reply) -> None:
        """An interrupted one waits at the head of its priority."""
        request = reply.job.request
        self.line.add(reply, request.owner, request.priority, time.monotonic(), interrupted=True)

    def drop(self, key: Key) -> None:
        """Forgets a request that has not begun; one with other choices stays for them."""
        for work in self.line:
            if isinstance(work, Arrival) and key in work.job.keys:
                left = work.job.without(key)
                self.replace(work, Arrival(left, work.tokens, work.adapters) if left else None)

    def conclude(self, key: Key) -> None:
        """The reasoning of a request that has not begun is to end as soon as it begins."""
        for work in self.line:
            if isinstance(work, Arrival) and key in work.job.keys and work.job.guides:
                work.job.guides[work.job.keys.index(key)].end_reasoning()

    def replace(self, work: Arrival | Reply, other: Arrival | Reply | None) -> None:
        """Another has its place in the line, or nobody."""
        if other is None:
            self.line.remove(work)
        else:
            self.line.replace(work, other)

    def clear(self) -> list[Arrival | Reply]:
        """Nobody waits any more; who did."""
        gone = list(self.line)
        for work in gone:
            self.line.remove(work)
        return gone

    def next(self, running: Several[Reply]) -> Begun | None:
        """The next to begin now; None if there is none."""
        if not self.line:
            return None
        now = time.monotonic()
        head: Entry[Arrival | Reply] | None = None
        for entry in self.line.first(now):
            if self._follows(entry.work, running):
                continue
            begun = self._begin(entry.work, running)
            if begun is not None:
                self.line.remove(entry.work)
                self.line.serve(entry.owner, begun.sequence.missing)  # at once, so that the next turn is another's
                if head is not None:
                    head.passed += 1
                return begun
            if head is None:
                head = entry
                head.blocked = head.blocked or now
                if not head.may_be_passed(now):
                    return None
        return None

    def _begin(self, work: Arrival | Reply, running: Several[Reply]) -> Begun | None:
        """None if it does not fit now."""
        choices = len(work.job.keys) if isinstance(work, Arrival) else 1
        if len(self._pool.live) + choices > self._parallel:
            return None
        tokens, spare, adapters = text(work), self._spare(work, running, choices), adapters_of(work)
        reuse = work.job.request.cache_prompt or isinstance(work, Reply)
        place = self._pool.find(tokens, spare, adapters, reuse=reuse)
        if place is None:
            return None
        hits = self._parking.find(tokens[:-1], place.length, adapters) if reuse else []
        if hits and hits[0].start == 0 and self._parking.exact:
            place = self._pool.find(tokens, spare, reuse=False) or place  # a whole state goes into an empty sequence
            hits = hits if not place.length else []
        sequence = self._pool.open(place, tokens, adapters)
        self._parking.restore(sequence, hits)
        return Begun(work, sequence, sequence.held, self._stops(sequence, place.match))

    def _spare(self, work: Arrival | Reply, running: Several[Reply], choices: int) -> int:
        """Cells that must stay free besides the prompt's; alone it needs none, as kept sequences give way."""
        if not self._pool.live:
            return 0
        promised = sum(reply.sequence.missing for reply in running if not reply.decoding)
        limit = work.job.request.sampling.max_tokens
        headroom = _HEADROOM if limit is None or limit < 0 else min(limit, _HEADROOM)
        return headroom * choices + _GROWTH * len(self._pool.live) + promised

    def _follows(self, work: Arrival | Reply, running: Several[Reply]) -> bool:
        """Whether a prompt that begins like this one is being computed right now: then it waits for that."""
        if isinstance(work, Reply) or not work.job.request.cache_prompt:
            return False
        tokens = work.tokens[:-1]
        for leader in running:
            if leader.decoding or leader.n_out or leader.sequence.adapters != work.adapters:
                continue
            shared = common(leader.sequence.text, tokens)
            ready = leader.sequence.held
            if shared >= ready + WORTH and shared >= self._pool.tree.match(tokens, work.adapters).length + WORTH:
                leader.stop_at(shared)
                return True
        return False

    def _stops(self, sequence: Sequence, match: int) -> tuple[int, ...]:
        """Positions for checkpoints: where prompts were seen to part, at intervals, and shortly before the end."""
        if not self._parking.exact:
            return ()
        wanted = {match, sequence.size - _CLOSING, *range(_INTERVAL, sequence.size, _INTERVAL)}
        return tuple(sorted(at for at in wanted if sequence.held < at < sequence.size))


def text(work: Arrival | Reply) -> Ids:
    """All tokens that must be in the cache before the next one is sampled."""
    return work.tokens if isinstance(work, Arrival) else work.sequence.text


def adapters_of(work: Arrival | Reply) -> AdapterSet:
    return work.adapters if isinstance(work, Arrival) else work.sequence.adapters


def keys(work: Arrival | Reply) -> list[Key]:
    """Under which its events go out."""
    return work.job.keys if isinstance(work, Arrival) else [work.job.key, *(each.job.key for each in work.siblings)]
