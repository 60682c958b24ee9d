"""States between the cache and the store: what must leave the cache is parked, what a prompt needs comes back.

ENGINE.md, 5. Between steps only, in the engine's thread.
"""

from __future__ import annotations

import time

from worker.adapter_set import BARE, AdapterSet, root
from worker.memory import NativeMemory
from worker.parked import Bytes, Hit, Parked
from worker.prefix_tree import Ids, State
from worker.sequences import Pool, Sequence

WORTH = 32  # tokens; fewer are computed as fast


class Parking:
    """Parks every kept sequence that the pool evicts."""

    def __init__(self, pool: Pool, memory: NativeMemory, parked: Parked) -> None:
        assert parked.exact == memory.exact, "a store for another class of models"
        self.parked = parked
        self._pool, self._memory = pool, memory
        pool.evicted = self.save

    @property
    def exact(self) -> bool:
        """Whether states are whole sequences, and checkpoints are needed."""
        return self._memory.exact

    def save(self, id: int) -> None:
        """Stores a sequence's state, as far as it is not stored yet, and its last checkpoint."""
        tokens = self._pool.tree.tokens(id)
        if not self.parked.budget:
            return
        if (found := self._pool.tree.last_checkpoint(id)) is not None:
            self._store(id, tokens[: found[0]], found[1])
        self._store(id, tokens, None)

    def _store(self, id: int, tokens: Ids, checkpoint: State | None) -> None:
        if len(tokens) < WORTH:
            return
        for segment in self.parked.absent(tokens, root(self._pool.tree.adapters(id))):
            data = self._memory.save(id, segment.start, segment.end, checkpoint)
            self.parked.put(segment, Bytes(data))

    def save_all(self, until: float) -> None:
        """Stores what is kept, the last used first, until `until` (monotonic seconds)."""
        ids = self._pool.kept
        for id in ids[::-1]:
            if time.monotonic() > until:
                return
            self.save(id)
        for id in ids:  # the last used is the most valuable again
            self.parked.absent(self._pool.tree.tokens(id), root(self._pool.tree.adapters(id)))

    def find(self, tokens: Ids, length: int, adapters: AdapterSet = BARE) -> list[Hit]:
        """Segments that reach so far beyond the first `length` tokens that they are worth their copying."""
        hits = self.parked.match(tokens, root(adapters))
        if not hits or hits[-1].end < length + WORTH:
            return []
        return [hit for hit in hits if hit.end > length]

    def restore(self, sequence: Sequence, hits: list[Hit]) -> int:
        """Brings segments back behind what the sequence holds; how many tokens. Fewer if there is no room."""
        before = sequence.held
        for hit in hits:
            data = self.parked.read(hit.name)
            if data is None or not self._memory.load(sequence.id, sequence.held, hit.end, data):
                break
            self._pool.commit(sequence, hit.end - sequence.held)
        return sequence.held - before
