"""The end of a load: the first batches prove that the model gives vectors, and give the first cost curve."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from worker.cost import CostCurve
from worker.embed.context import EmbedContext
from worker.embed.vectors import Vectors
from worker.failure import LoadError
from worker.model import refused

_ROWS = (1, 8, 64)
_SAME = 1e-3  # scores of one text, alone and in company, differ by rounding only


def calibrate(context: EmbedContext) -> CostCurve:
    """Batches of 1, 8 and 64 rows. Raises LoadError if the model cannot compute, or has no head to rank with."""
    costs = CostCurve()
    _compute(context, [_tokens(context, 1)])  # pages in a mapped model and starts the threads
    for rows in _ROWS:
        rows = min(rows, context.limit, context.n_batch)
        costs.add(rows, _compute(context, [_tokens(context, rows)]))
    if context.pooling == "rank":
        _check_head(context)
    context.clear()
    return costs


def _check_head(context: EmbedContext) -> None:
    """Without a classifier's head llama.cpp gives numbers of the hidden state for scores, other ones in company."""
    texts = [_tokens(context, 2), _tokens(context, 3, 5), _tokens(context, 4, 9)]
    together = _scores(context, texts)
    alone = np.concatenate([_scores(context, [text]) for text in texts])
    if not np.allclose(together, alone, rtol=_SAME, atol=_SAME):
        text = 'the model has no classifier head, so it cannot rank; task = "embed" gives its vectors'
        raise LoadError("load_error", text, permanent=True)


def _scores(context: EmbedContext, texts: Sequence[Sequence[int]]) -> Vectors:
    _compute(context, texts)
    return np.concatenate([context.pooled(number) for number in range(len(texts))])


def _tokens(context: EmbedContext, count: int, first: int = 0) -> list[int]:
    """So many ids of the vocabulary."""
    return [(first + at) % context.model.vocabulary.size for at in range(count)]


def _compute(context: EmbedContext, texts: Sequence[Sequence[int]]) -> float:
    context.clear()
    context.fill(texts)
    began = time.monotonic()
    if code := context.compute():
        raise refused(context.model.log.reason or f"the first batch failed with code {code}: not enough memory?")
    return time.monotonic() - began
