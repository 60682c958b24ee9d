"""Growth is seen, and noise is not taken for it."""

from __future__ import annotations

from tests.faults.drift import Usage, slope, told


def test_what_grows_is_told_by_the_hour() -> None:
    assert slope([0.0, 1.0, 2.0], [5.0, 7.0, 9.0]) == 2.0
    assert slope([1.0, 1.0], [5.0, 7.0]) == 0.0
    process, gone = (7, "root"), (8, "w:a")
    seen = [Usage(at * 60.0, {process: (at * 2**20, 10, 3)}) for at in range(60)]
    seen[0].of[gone] = (1, 1, 1)
    assert told(seen) == ["root: +60.00 MiB, +0.00 descriptors, +0.00 threads an hour"]


def test_a_short_run_says_nothing() -> None:
    assert told([Usage(at * 1.0, {(7, "root"): (at, 1, 1)}) for at in range(60)]) == []
