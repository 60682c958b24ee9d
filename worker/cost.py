"""How long a decode of so many rows takes: a moving average per row bucket, interpolated. Pure. ENGINE.md, 2 and 4."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

_WEIGHT = 0.2  # of a new measurement
_OUTLIER = 4.0  # a step this many times slower than predicted counts as that: the machine was busy, not the model


class CostCurve:
    """Seconds per decode as a function of its rows, learnt from measurements."""

    def __init__(self) -> None:
        self._rows: list[int] = []  # sorted representatives of the buckets seen
        self._seconds: dict[int, float] = {}

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

    def add(self, rows: int, seconds: float) -> None:
        """Counts one measured decode."""
        bucket = _bucket(rows)
        known = self._seconds.get(bucket)
        if known is None:
            self._rows.insert(bisect_left(self._rows, bucket), bucket)
            self._seconds[bucket] = seconds * bucket / rows if rows > 16 else seconds
        else:
            scaled = seconds * bucket / rows if rows > 16 else seconds
            self._seconds[bucket] = known + _WEIGHT * (min(scaled, known * _OUTLIER) - known)

    def predict(self, rows: int) -> float:
        """Seconds for a decode of `rows`; 0 before the first measurement. Never less for more rows."""
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

    def most(self, seconds: float, taken: int, low: int, high: int, step: int = 32) -> int:
        """Most rows in [low, high] that fit beside `taken` rows in a decode of at most `seconds`."""
        rows = high
        while rows > low and self.predict(taken + rows) > seconds:
            rows = max(low, (rows - 1) // step * step)
        return rows


def _bucket(rows: int) -> int:
    """1, 2, 4, 8, 16, 32, … : the power of two at or above `rows`."""
    return 1 << (rows - 1).bit_length()
