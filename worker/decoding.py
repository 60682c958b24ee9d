"""llama_decode's return codes: what each leaves behind, and what is tried before a request suffers. ENGINE.md, 6."""

from __future__ import annotations

import logging
import time
from collections import deque
from enum import Enum, auto

from supervisor.log import facts
from worker.context import Context
from worker.failure import EngineError
from worker.sequences import Pool

_log = logging.getLogger(__name__)
_NO_SLOT, _ABORTED, _INVALID = 1, 2, -1
_MAX_INVALID, _WINDOW = 3, 60.0  # so many invalid batches within so many seconds are a bug that a restart must end


class Outcome(Enum):
    DONE = auto()
    RETRY = auto()  # nothing was lost: plan again
    ABORTED = auto()  # a part was computed: the ledger must be put right
    NO_ROOM = auto()  # somebody must go
    BROKEN = auto()  # the batch's requests are lost


class Decoder:
    """Decodes the context's batch and puts the ledger right after a failure."""

    def __init__(self, context: Context, pool: Pool) -> None:
        self._context, self._pool = context, pool
        self._invalid: deque[float] = deque(maxlen=_MAX_INVALID)

    def decode(self) -> Outcome:
        """Raises EngineError if batches are invalid again and again."""
        code = self._context.decode()
        if code == 0:
            return Outcome.DONE
        facts_ = facts(code=code, rows=self._context.rows, cells=self._pool.tree.cells, of=self._pool.cells)
        _log.warning("decode failed %s", facts_)
        if code == _NO_SLOT:
            return Outcome.RETRY if self._pool.evict_all() else Outcome.NO_ROOM
        if code == _ABORTED:
            return Outcome.ABORTED
        if code == _INVALID:
            self._count_invalid()
        return Outcome.BROKEN

    def check(self) -> None:
        """After a broken batch: proves that the context still computes. Raises EngineError."""
        sequence = self._pool.reserve()
        if sequence is None:
            return  # the next step is proof enough
        sequence.append(0)
        self._context.fill([sequence], [])
        code = self._context.decode()
        self._pool.close(sequence, keep=False)
        if code:
            raise EngineError(f"llama_decode fails with code {code} even for one token")

    def _count_invalid(self) -> None:
        now = time.monotonic()
        self._invalid.append(now)
        if len(self._invalid) == _MAX_INVALID and now - self._invalid[0] < _WINDOW:
            raise EngineError("llama.cpp refuses batch after batch as invalid")
