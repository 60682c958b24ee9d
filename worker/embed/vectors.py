"""From what the model computed to what a client gets: dimensions, norm, bytes. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
_INT16 = 32760.0  # what the largest value of mode 0 becomes, so that it fits 16 bits


def finish(rows: Vectors, dimensions: int, normalize: int) -> Vectors:
    """Rows of shape (n, width): the first `dimensions` of each (0: all), then its norm made 1. See protocol.Embed."""
    found = rows[:, :dimensions] if dimensions else rows
    if normalize < 0:
        return np.ascontiguousarray(found, "<f4")
    sizes = _sizes(found.astype(np.float64), normalize)
    scale = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)  # a vector of zeros stays one
    return (found * scale[:, None]).astype("<f4")


def _sizes(rows: npt.NDArray[np.float64], normalize: int) -> npt.NDArray[np.float64]:
    """What each row is divided by."""
    largest: npt.NDArray[np.float64] = np.abs(rows).max(axis=1)
    if normalize == 0:
        return largest / _INT16
    unit = rows / np.where(largest > 0, largest, 1.0)[:, None]  # a high power of a large number would overflow
    norms: npt.NDArray[np.float64] = np.power(np.power(np.abs(unit), normalize).sum(axis=1), 1.0 / normalize)
    return norms * largest
