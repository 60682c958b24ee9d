"""How long a decode of so many rows takes: a moving average per row bucket, interpolated. Pure. ENGINE.md, 2 and 4.

Attention costs more the more cells a row looks back at, until that is most of the time: 64 rows of SmolLM2 take 0.17 s
at the beginning of a prompt and 0.8 s behind 8,000 tokens. So the curve over the rows is that of short contexts, and
the rest is counted by `reach`: cells looked at, summed over the rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

_WEIGHT = 0.2  # of a new measurement
_OUTLIER = 4.0  # a step this many times slower than predicted counts as that: the machine was busy, not the model
_DEEP = 256  # cells a row looks back at, from which on a step tells of attention rather than of rows
_EVEN = 8192  # cells at which attention is taken to cost as much as all the rest, before it was measured
_MANY = 16  # rows from which on they are multiplied as matrices: a cell costs each of them less


class CostCurve:
    """Seconds per decode as a function of its rows, learnt from measurements."""

    def __init__(self) -> None:
        self._rows: list[int] = []  # sorted representatives of the buckets seen
        self._seconds: dict[int, float] = {}
        self._bases: dict[int, float] = {}  # by rows, as asked for since the last measurement
        self._cell = {False: 0.0, True: 0.0}  # seconds for a row to look at a cell; True: _MANY rows or more

    @classmethod
    def of(cls, measured: Mapping[int, float]) -> CostCurve:
        """From seconds by rows."""
        costs = cls()
        for rows, seconds in measured.items():
            costs.add(rows, seconds)
        return costs

    @property
    def measured(self) -> dict[int, float]:
        """Seconds by rows, as far as it was measured."""
        return dict(self._seconds)

    def add(self, rows: int, seconds: float, reach: int = 0) -> None:
        """Counts one measured decode."""
        many, base = rows >= _MANY, self._base(rows)
        if reach >= rows * _DEEP and seconds > base > 0:
            known = self._cell[many] or (seconds - base) / reach
            self._cell[many] = known + _WEIGHT * (min((seconds - base) / reach, known * _OUTLIER) - known)
        else:
            self._learn(rows, max(seconds - self._look(rows) * reach, seconds / 2))

    def predict(self, rows: int, reach: int = 0) -> float:
        """Seconds for a decode of `rows`; 0 before the first measurement. Never less for more rows."""
        return self._base(rows) + self._look(rows) * reach

    def _look(self, rows: int) -> float:
        """Seconds that one of so many rows takes for a cell."""
        return self._cell[rows >= _MANY] or self._base(rows) / max(rows, 1) / _EVEN

    def _learn(self, rows: int, seconds: float) -> None:
        bucket = _bucket(rows)
        known = self._seconds.get(bucket)
        scaled = seconds * bucket / rows if rows > _MANY else seconds
        if known is None:
            self._rows.insert(bisect_left(self._rows, bucket), bucket)
            self._seconds[bucket] = scaled
        else:
            self._seconds[bucket] = known + _WEIGHT * (min(scaled, known * _OUTLIER) - known)
        self._bases.clear()

    def _base(self, rows: int) -> float:
        found = self._bases.get(rows)
        if found is None:
            found = self._bases[rows] = self._interpolated(rows)
        return found

    def _interpolated(self, rows: int) -> float:
        if not self._rows or rows <= 0:
            return 0.0
        at = bisect_left(self._rows, rows)
        below = max((self._seconds[row] for row in self._rows[:at]), default=0.0)
        if at == len(self._rows):
            last = self._rows[-1]
            return max(below, self._seconds[last] * rows / last)
        upper = self._rows[at]
        high = max(below, self._seconds[upper])
        if at == 0:
            return high
        lower = self._rows[at - 1]
        return below + (high - below) * (rows - lower) / (upper - lower)

    def most(self, seconds: float, low: int, high: int, beside: Beside | None = None, step: int = 32) -> int:
        """Most rows in [low, high] that fit into a decode of at most `seconds`."""
        beside, rows = beside or Beside(), high
        while rows > low and self.chunk(rows, beside) > seconds:
            rows = max(low, (rows - 1) // step * step)
        return rows

    def chunk(self, rows: int, beside: Beside) -> float:
        """Seconds for a decode with a chunk of `rows` in it."""
        return self.predict(beside.rows + rows, beside.reach + rows * (beside.depth + rows // 2))


@dataclass(frozen=True, slots=True)
class Beside:
    """What a chunk meets: `rows` that decode in the same step, their `reach`, and `depth` cells before it."""

    rows: int = 0
    reach: int = 0
    depth: int = 0


def _bucket(rows: int) -> int:
    """1, 2, 4, 8, 16, 32, … : the power of two at or above `rows`."""
    return 1 << (rows - 1).bit_length()
