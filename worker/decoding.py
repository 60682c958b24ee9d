"""llama_decode's return codes: what each leaves behind, and what is tried before a request suffers. ENGINE.md, 6."""

from __future__ import annotations

import logging
import time
from collections import deque
from enum import Enum, auto

from supervisor.log import facts
from worker.context import Context
from worker.failure import EngineError
from worker.sequences import Slots

_log = logging.getLogger(__name__)
_NO_SLOT, _ABORTED, _INVALID = 1, 2, -1
_MAX_INVALID, _WINDOW = 3, 60.0  # so many invalid batches within so many seconds are a bug that a restart must end


class Outcome(Enum):
    DONE = auto()
    RETRY = auto()  # nothing was lost: plan again
    NO_ROOM = auto()  # somebody must go
    BROKEN = auto()  # the batch's requests are lost


class Decoder:
    """Decodes the context's batch and puts the ledger right after a failure."""

    def __init__(self, context: Context, slots: Slots) -> None:
        self._context, self._slots = context, slots
        self._invalid: deque[float] = deque(maxlen=_MAX_INVALID)

    def decode(self) -> Outcome:
        """Raises EngineError if batches are invalid again and again."""
        code = self._context.decode()
        if code == 0:
            return Outcome.DONE
        _log.warning("decode failed %s", facts(code=code, rows=self._context.rows, slots=self._state()))
        if code == _NO_SLOT:
            return Outcome.RETRY if self._drop_kept() else Outcome.NO_ROOM
        if code == _ABORTED:
            for slot in self._slots.all:
                slot.held = min(slot.size, self._context.held(slot))
            return Outcome.RETRY
        if code == _INVALID:
            self._count_invalid()
        return Outcome.BROKEN

    def check(self) -> None:
        """After a broken batch: proves that the context still computes. Raises EngineError."""
        idle = self._slots.idle
        if not idle:
            return  # the next step is proof enough
        slot = idle[0]
        slot.held = slot.size = 0
        self._context.cut(slot)
        slot.append(0)
        self._context.fill([slot], [])
        code = self._context.decode()
        slot.size = 0
        self._context.cut(slot)
        if code:
            raise EngineError(f"llama_decode fails with code {code} even for one token")

    def _drop_kept(self) -> bool:
        """Frees the cells of ended requests; whether there were any."""
        kept = [slot for slot in self._slots.idle if slot.held]
        for slot in kept:
            slot.held = slot.size = 0
            self._context.cut(slot)
        return bool(kept)

    def _count_invalid(self) -> None:
        now = time.monotonic()
        self._invalid.append(now)
        if len(self._invalid) == _MAX_INVALID and now - self._invalid[0] < _WINDOW:
            raise EngineError("llama.cpp refuses batch after batch as invalid")

    def _state(self) -> str:
        return " ".join(f"{slot.id}:{slot.held}/{slot.size}{'*' if slot.busy else ''}" for slot in self._slots.all)
