"""Which inputs go into the next batch: first come first served, whole where they fit. Pure. ENGINE.md, 16."""

from __future__ import annotations

from collections.abc import Iterable


def count(lengths: Iterable[int], rows: int, ids: int) -> int:
    """How many of the first inputs fit into `rows`, each with an id of its own; at least 1 if there is any.

    Nobody is overtaken: what comes after one that does not fit waits with it.
    """
    taken = used = 0
    for length in lengths:
        if taken == ids or (taken and used + length > rows):
            break
        taken, used = taken + 1, used + length
    return taken


def most_rows(n_batch: int, n_ubatch: int, n_vocab: int, *, on_cpu: bool) -> int:
    """Rows of a batch that holds several inputs.

    A CPU gains nothing from more than it computes at once. llama.cpp keeps a row of logits for each row, also where
    a model has none: with a large vocabulary those bound the batch.
    """
    if on_cpu:
        return n_ubatch
    return min(n_batch, max(n_ubatch, _LOGITS // (4 * n_vocab)))


_LOGITS = 512 * 2**20  # bytes
