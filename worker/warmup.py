"""The end of a load: the first decodes prove that the model computes, and give the first cost curve. ENGINE.md, 2."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext

from worker.adapter_set import BARE, AdapterSet
from worker.context import Context
from worker.cost import CostCurve
from worker.model import refused
from worker.sequences import Sequence
from worker.turns import Turn

_ROWS = (1, 8, 64)


def calibrate(
    context: Context, turn: Turn | None, known: Mapping[int, float], adapters: AdapterSet = BARE
) -> CostCurve:
    """Decodes of 1, 8 and 64 rows; leaves no trace in the cache. Raises LoadError if the model cannot compute.

    Each takes its `turn` with the models beside it.

    `known`: what an earlier load has measured, {} if there was none. One decode is enough then: the engine goes on
    measuring anyway. `adapters`: what most requests will be computed with.
    """
    costs = CostCurve.of(known)
    context.worn.change(context.model.adapters.all)  # if there is memory for all of them, it is shown now
    _decode(context, turn, 1)  # pages in a mapped model and starts the threads: not what a step costs
    context.worn.change(adapters)
    for rows in () if known else _ROWS:
        rows = min(rows, context.n_batch, context.n_ctx)
        costs.add(rows, _decode(context, turn, rows))
    context.clear()
    return costs


def _decode(context: Context, turn: Turn | None, rows: int) -> float:
    context.clear()
    context.fill([], [(Sequence([0] * rows, context.n_ctx, 0), rows)])
    with turn or nullcontext():
        began = time.monotonic()
        code = context.decode()
        seconds = time.monotonic() - began
    if code:
        raise refused(context.model.log.reason or f"the first decode failed with code {code}: not enough memory?")
    return seconds
