"""What the KV cache holds: one slot per sequence that can run, and which slot a prompt should take. Pure.

A slot keeps its tokens when its request ends, so that the next prompt with the same beginning need not compute it
again. The ledger is the engine's truth about the cache: it changes only after a decode has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


class Slot:
    """A sequence id of the context. `tokens[:size]` is the request's text so far, `tokens[:held]` lies in the cache."""

    __slots__ = ("busy", "held", "id", "size", "tokens", "used")

    def __init__(self, number: int, n_ctx: int) -> None:
        self.id = number
        self.tokens: Ids = np.zeros(n_ctx, np.int32)
        self.size = 0
        self.held = 0
        self.busy = False
        self.used = 0

    @property
    def missing(self) -> int:
        """Tokens that still need a row."""
        return self.size - self.held

    def append(self, token: int) -> None:
        self.tokens[self.size] = token
        self.size += 1

    def match(self, prompt: Ids) -> int:
        """Length of the common prefix of the prompt and what the cache holds."""
        size = min(self.held, len(prompt))
        differs = np.flatnonzero(self.tokens[:size] != prompt[:size])
        return int(differs[0]) if len(differs) else size


class Slots:
    """All slots of a context; each runs one request at a time."""

    def __init__(self, count: int, n_ctx: int) -> None:
        self.all = tuple(Slot(number, n_ctx) for number in range(count))
        self._clock = 0

    @property
    def idle(self) -> list[Slot]:
        return [slot for slot in self.all if not slot.busy]

    def take(self, prompt: Sequence[int], *, reuse: bool = True) -> tuple[Slot, int] | None:
        """A slot for this prompt and how many of its tokens the cache holds already; None if all are busy.

        The longest match wins, else the least recently used. At least one token is left to compute, since only a
        computed row has logits. The caller must remove positions from that number on before the next decode.
        """
        idle = self.idle
        if not idle:
            return None
        ids = np.asarray(prompt, np.int32)
        matches = {slot.id: slot.match(ids) if reuse else 0 for slot in idle}
        slot = max(idle, key=lambda slot: (matches[slot.id], -slot.used, -slot.id))
        cached = min(matches[slot.id], len(ids) - 1)
        slot.tokens[: len(ids)] = ids
        slot.size, slot.held, slot.busy = len(ids), cached, True
        return slot, cached

    def reserve(self) -> Slot:
        """An idle slot, the least recently used; it holds nothing. The caller must remove its cells."""
        slot = min(self.idle, key=lambda slot: (slot.used, slot.id))
        slot.size, slot.held, slot.busy = 0, 0, True
        return slot

    def release(self, slot: Slot, *, keep: bool = True) -> None:
        """The request has ended; what the cache holds of it stays for reuse, unless `keep` is False."""
        self._clock += 1
        slot.busy, slot.used = False, self._clock
        if not keep:
            slot.held = 0
        slot.size = slot.held
