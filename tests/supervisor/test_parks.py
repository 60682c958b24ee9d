"""What unloaded models leave with the root."""

from __future__ import annotations

import os

from supervisor.parks import Parks


def run(parks: Parks, model: str, writes: int, *, clean: bool = True) -> int:
    """A worker's life; how many bytes it found."""
    empty, *left = [os.dup(fd) for fd in parks.lend(model)]
    found = os.fstat(left[0]).st_size if left else 0
    os.write(empty, bytes(writes))
    for fd in (empty, *left):
        os.close(fd)
    parks.ended(model, clean=clean)
    return found


def test_the_next_worker_finds_what_the_last_one_left() -> None:
    parks = Parks(1000)
    assert [run(parks, "a", 10), run(parks, "a", 20), run(parks, "a", 30)] == [0, 10, 20]
    assert run(parks, "b", 1) == 0
    assert parks.size == 31


def test_one_that_wrote_nothing_or_crashed_changes_nothing() -> None:
    parks = Parks(1000)
    run(parks, "a", 10)
    run(parks, "a", 0)
    run(parks, "a", 5, clean=False)
    assert run(parks, "a", 0) == 10


def test_over_the_budget_the_oldest_goes() -> None:
    parks = Parks(100)
    for model in "abc":
        run(parks, model, 40)
    assert [run(parks, model, 0) for model in "abc"] == [0, 40, 40]
    run(parks, "d", 101)
    assert parks.size == 0


def test_without_a_budget_nothing_is_kept() -> None:
    parks = Parks(0)
    assert parks.lend("a") == []
    parks.ended("a", clean=True)


def test_no_descriptor_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    parks = Parks(100)
    for number in range(50):
        run(parks, f"m{number % 7}", 30, clean=number % 3 > 0)
        parks.lend("never ended")
    for number in range(7):
        parks.forget(f"m{number}")
    parks.ended("never ended", clean=True)
    assert len(os.listdir("/proc/self/fd")) == before
