"""States of slots between the cache and a file: what is saved, how it comes back, what is forgotten. API.md, 7.2.

Each method is one errand in the engine's thread, between two steps, and copies no more than PART bytes where a state
can be cut. What a slot holds is what was said last at its lane; the tree and the park may have it or not by now. Where
a state cannot be cut, a file has two: the whole, and the last one before it, from which the same prompt goes on.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass

from worker.adapter_set import AdapterSet, root
from worker.failure import RequestError
from worker.memory import NativeMemory
from worker.parked import Segment
from worker.parking import Parking
from worker.prefix_tree import Ids, State, begins
from worker.sequences import Pool, Sequence

PART = 32 * 2**20  # bytes that are copied between two steps; one segment at least
_SPARE = 256  # cells left to each of those that run when a slot comes back

Piece = tuple[Segment, State]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be saved: the segments of a text, and the adapters with which it was computed."""

    text: Ids
    adapters: AdapterSet
    segments: tuple[Segment, ...]


@dataclass(slots=True)
class Return:
    """A slot that comes back. `checkpoint`: a state on the way, and its length."""

    sequence: Sequence
    checkpoint: tuple[int, State] | None = None


class Slots:
    """Of one engine."""

    def __init__(self, pool: Pool, parking: Parking, memory: NativeMemory) -> None:
        self._pool, self._parked, self._memory = pool, parking.parked, memory
        self._back: Return | None = None

    # -- saving ---------------------------------------------------------------------------------------------------

    def plan(self, lane: int) -> Plan:
        """What of a slot's state is there. Raises RequestError."""
        text, adapters = self._said(lane)
        if not len(text):
            raise RequestError("invalid_value", f"slot {lane} holds nothing: no request has left a state there")
        segments = self._whole(text, adapters) if self._memory.exact else self._cut(text, adapters)
        if not segments:
            raise RequestError("invalid_value", f"slot {lane} holds nothing any more: its state made room for others")
        return Plan(text, adapters, tuple(segments))

    def copy(self, plan: Plan, done: int) -> list[Piece]:
        """The next segments behind the first `done`: PART bytes or a bit more. Raises RequestError."""
        found: list[Piece] = []
        for segment in plan.segments[done:]:
            data = self._cached(plan.text[: segment.end], plan.adapters, segment.start)
            data = self._parked.read(segment.name) if data is None else data
            if data is None:
                raise RequestError("sequence_busy", "the slot's state made room for another request meanwhile")
            found.append((segment, data))
            if sum(len(state) for _, state in found) >= PART:
                break
        return found

    # -- restoring ------------------------------------------------------------------------------------------------

    def open(self, lane: int, tokens: Ids, adapters: AdapterSet) -> Return:
        """Makes room for these tokens at a lane that nobody has. Raises RequestError."""
        self._check(lane)
        if len(tokens) > self._pool.n_ctx:
            message = f"the file holds {len(tokens)} tokens, but a slot has {self._pool.n_ctx}"
            raise RequestError("invalid_value", message, param="filename")
        spare = _SPARE * len(self._pool.live)
        place = self._pool.find(tokens, spare, adapters, reuse=not self._memory.exact)
        if place is None:
            raise _no_room(len(tokens))
        self._back = Return(self._pool.open(place, tokens, adapters, lane=lane))
        return self._back

    def fill(self, back: Return, pieces: Several[Piece]) -> None:
        """Puts the next states into the cache. Raises RequestError."""
        if back is not self._back:
            raise _no_room(back.sequence.size)
        for segment, data in pieces:
            if self._memory.exact:
                self._fill_whole(back, segment, data)
            elif segment.end > back.sequence.held:  # else it is still there
                self._load(back, segment.end, data)
                self._pool.commit(back.sequence, segment.end - back.sequence.held)

    def finish(self, back: Return) -> None:
        """All of it is there: the slot has it, as if it had been said just now."""
        self.fill(back, ())
        self._pool.close(back.sequence)
        self._back = None

    def abandon(self, back: Return) -> None:
        """It does not come back."""
        if back is self._back:
            self.give_way()

    @property
    def returning(self) -> bool:
        return self._back is not None

    def give_way(self) -> bool:
        """Others need the room: the one that comes back does not; whether there was one."""
        if self._back is None:
            return False
        self._pool.close(self._back.sequence, keep=False)
        self._back = None
        return True

    # -- forgetting -----------------------------------------------------------------------------------------------

    def erase(self, lane: int) -> int:
        """Forgets what was said last at a lane, as far as no other slot has it; tokens. Raises RequestError."""
        text, adapters = self._said(lane)
        lanes, tree = self._pool.lanes, self._pool.tree
        alike = [other for other in range(len(lanes)) if other != lane and lanes.adapters(other) == adapters]
        others = [lanes.text(other) for other in alike]
        for id in [id for id in self._pool.kept if tree.adapters(id) == adapters]:
            tokens = tree.tokens(id)
            if begins(text, tokens) and not any(begins(other, tokens) for other in others):
                self._pool.forget(id)
        self._parked.forget(text, others, root(adapters))
        lanes.forget(lane)
        return len(text)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _check(self, lane: int) -> None:
        if self._pool.lanes.taken(lane):
            raise RequestError("sequence_busy", f"slot {lane} is in use", param="id")

    def _said(self, lane: int) -> tuple[Ids, AdapterSet]:
        self._check(lane)
        return self._pool.lanes.text(lane), self._pool.lanes.adapters(lane)

    def _cut(self, text: Ids, adapters: AdapterSet) -> list[Segment]:
        """As much as the tree or the park has, whichever has more."""
        parked = 0
        for segment in self._parked.chain(text, root(adapters)):
            if segment.name not in self._parked:
                break
            parked = segment.end
        length = max(self._pool.tree.match(text, adapters).length, parked)
        return list(self._parked.chain(text[:length], root(adapters)))

    def _whole(self, text: Ids, adapters: AdapterSet) -> list[Segment]:
        """The longest state, after the longest one before it."""
        end = self._reach(text, adapters)
        before = self._reach(text[: end - 1], adapters) if end else 0
        return [Segment(root(adapters), 0, text[:length]) for length in (before, end) if length]

    def _reach(self, text: Ids, adapters: AdapterSet) -> int:
        """Tokens of the longest beginning of which a state is there that cannot be cut."""
        best = max((hit.end for hit in self._parked.match(text, root(adapters))), default=0)
        for match in self._pool.tree.matches(text, adapters):
            if match.length == match.run.end and self._pool.tree.ending(match.run):
                best = max(best, match.length)
            if (found := match.checkpoint) is not None:
                best = max(best, found[0])
        return best

    def _cached(self, text: Ids, adapters: AdapterSet, start: int) -> State | None:
        """The state of a text from `start` on, if the tree has it."""
        for match in self._pool.tree.matches(text, adapters):
            if match.length < len(text):
                continue
            if not self._memory.exact:
                return self._memory.save(min(match.run.holders), start, len(text))
            if match.run.end == len(text) and (ending := self._pool.tree.ending(match.run)):
                return self._memory.save(ending[0], 0, len(text))
            if (state := match.run.checkpoints.get(len(text))) is not None:
                return self._memory.save(min(match.run.holders), 0, len(text), state)
        return None

    def _load(self, back: Return, end: int, data: State) -> None:
        if not self._memory.load(back.sequence.id, back.sequence.held, end, data):
            raise _no_room(back.sequence.size)

    def _fill_whole(self, back: Return, segment: Segment, data: State) -> None:
        """The last one stays; what came before it leaves a checkpoint."""
        sequence = back.sequence
        self._load(back, segment.end, data)
        if segment.end < sequence.size:
            back.checkpoint = segment.end, self._memory.checkpoint(sequence.id)
            self._memory.cut(sequence.id, 0)
            return
        if back.checkpoint is not None:
            self._pool.commit(sequence, back.checkpoint[0])
            self._pool.mark(sequence, back.checkpoint[1])
        self._pool.commit(sequence, segment.end - sequence.held)


def _no_room(tokens: int) -> RequestError:
    message = f"the KV cache has no room for {tokens} tokens while others run"
    return RequestError("no_slot_available", message)
