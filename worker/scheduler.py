"""Which sequences get how many rows in the next decode. Pure. ENGINE.md, 4.

Decode first: every decoding sequence gets its row in every step. Prefill gets chunks on top, sized so that those who
decode wait for no more than the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.cost import Beside, CostCurve

ALONE = 3.0  # times the budget for a step that nobody else waits for: a cancel takes effect between steps, within 1 s
MIN_CHUNK = 64  # rows a chunk should have at least; fewer where that keeps to the budget and costs little
_SMALLER = (16, 32)
_LITTLE = 1.75  # times what a row takes in a chunk of MIN_CHUNK, all of the step counted


@dataclass(frozen=True, slots=True)
class Limits:
    """Rows a decode may have, rows computed at once, and seconds a step with prefill may take beside others."""

    n_batch: int
    n_ubatch: int
    budget: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `rows` prompt tokens of the sequence at `index` in the list of prefilling ones."""

    index: int
    rows: int


def plan(
    prefilling: Sequence[int],
    limits: Limits,
    costs: CostCurve,
    beside: Beside | None = None,
    *,
    shared: bool,
    room: int = 2**31,
) -> list[Chunk]:
    """The prefill chunks of a step.

    prefilling: the most rows each prompt may have, the most urgent first. beside: the rows that decode in this step,
    and what stands before the most urgent chunk. shared: others wait for these cores, other processes or sequences
    with other adapters, so the budget holds even if nobody decodes here; otherwise a step of prefill alone may take
    ALONE times as long. room: cells that prefill may take. The first prompt takes the room; those that fit whole fill
    it up.
    """
    if not prefilling or room <= 0:
        return []
    beside = beside or Beside()
    decoding = beside.rows
    budget = limits.budget if decoding or shared else limits.budget * ALONE
    high = min(max(limits.n_ubatch - decoding, MIN_CHUNK) if decoding else limits.n_ubatch, limits.n_batch - decoding)
    rows_left = min(room, costs.most(budget, min(_least(costs, beside), high), high, beside))
    chunks = []
    for index, rows in enumerate(prefilling):
        if index and rows > rows_left:
            continue
        taken = min(rows, rows_left)
        if taken <= 0:
            break
        chunks.append(Chunk(index, taken))
        rows_left -= taken
    return chunks


def _least(costs: CostCurve, beside: Beside) -> int:
    """The smallest chunk whose rows cost little more than they do in one of MIN_CHUNK.

    Where a step with a few rows takes as long as one with MIN_CHUNK, as on GPUs, the prompt would take many times as
    long and nobody gain by it. Behind a long context attention is most of the time, and a row costs about the same.
    """
    most = costs.chunk(MIN_CHUNK, beside) / MIN_CHUNK * _LITTLE
    return next((rows for rows in _SMALLER if costs.chunk(rows, beside) / rows <= most), MIN_CHUNK)
