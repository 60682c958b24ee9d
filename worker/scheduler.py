"""Which sequences get how many rows in the next decode. Pure. ENGINE.md, 4.

Decode first: every decoding sequence gets its row in every step. Prefill gets chunks on top, sized so that those who
decode wait for no more than the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.cost import CostCurve

ALONE = 3.0  # times the budget for a step that nobody else waits for: a cancel takes effect between steps, within 1 s
MIN_CHUNK = 64  # below it a step gets hardly shorter, while prefill takes twice as long (measured)


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
    decoding: int, prefilling: Sequence[int], limits: Limits, costs: CostCurve, *, shared: bool, room: int = 2**31
) -> list[Chunk]:
    """The prefill chunks of a step in which `decoding` rows decode.

    prefilling: the most rows each prompt may have, the most urgent first. shared: other processes wait for these
    cores, so the budget holds even if nobody decodes here; otherwise a step of prefill alone may take ALONE times as
    long. room: cells that prefill may take. The first prompt takes the room; those that fit whole fill it up.
    """
    if not prefilling or room <= 0:
        return []
    budget = limits.budget if decoding or shared else limits.budget * ALONE
    high = min(max(limits.n_ubatch - decoding, MIN_CHUNK) if decoding else limits.n_ubatch, limits.n_batch - decoding)
    rows_left = min(room, costs.most(budget, decoding, min(MIN_CHUNK, high), high))
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
