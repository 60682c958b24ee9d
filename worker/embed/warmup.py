"""The end of a load: the first batches prove that the model gives vectors, and give the first cost curve."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext

from worker.adapter_set import BARE, AdapterSet
from worker.cost import CostCurve
from worker.embed.context import EmbedContext
from worker.model import refused
from worker.turns import Turn

_ROWS = (1, 8, 64)


def calibrate(
    context: EmbedContext, turn: Turn | None, known: Mapping[int, float], adapters: AdapterSet = BARE
) -> CostCurve:
    """Batches of 1, 8 and 64 rows, or of 1 if `known` has what an earlier load measured. Raises LoadError.

    Each takes its `turn` with the models beside it.
    `adapters`: what inputs will be computed with, and the context has on from now on.
    """
    costs = CostCurve.of(known)
    context.worn.change(context.model.adapters.all)  # if there is memory for all of them, it is shown now
    _compute(context, turn, 1)  # pages in a mapped model and starts the threads
    context.worn.change(adapters)
    for rows in () if known else _ROWS:
        rows = min(rows, context.limit, context.n_batch)
        costs.add(rows, _compute(context, turn, rows))
    context.clear()
    return costs


def _compute(context: EmbedContext, turn: Turn | None, rows: int) -> float:
    context.clear()
    context.fill([[0] * rows])
    with turn or nullcontext():
        began = time.monotonic()
        code = context.compute()
        seconds = time.monotonic() - began
    if code:
        raise refused(context.model.log.reason or f"the first batch failed with code {code}: not enough memory?")
    return seconds
