"""What counting costs the engine: a step of the meters by itself, and the report that the I/O thread makes of them."""

from __future__ import annotations

import time
import timeit
from collections.abc import Iterator

from tests.bench.table import Row
from worker.meters import Meters

_SEQUENCES = 16
_ROUNDS = 20_000


def rows() -> Iterator[Row]:
    meters = Meters()

    def step() -> None:
        decoded = time.monotonic()
        for _ in range(_SEQUENCES):
            meters.predicted_tokens += 1
        meters.stepped(_SEQUENCES, 1, 64, 80, 0.02, decoded)

    micro = min(timeit.repeat(step, number=_ROUNDS, repeat=5)) / _ROUNDS * 1e6
    report = min(timeit.repeat(lambda: meters.series(1, 0), number=1000, repeat=5)) / 1000 * 1e6
    detail = f"{_SEQUENCES} sequences; a report, once a second in the I/O thread: {report:.0f} µs"
    yield Row("counting for the metrics, of each step", f"{micro:.1f} µs", detail, "≤ 10 µs", micro <= 10)
