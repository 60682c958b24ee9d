"""Drives the pure core of the supervisor through random schedules: `python -m tests.faults simulate --count 100000`.

The fleet is the real one, with its lifecycle, placement, drains, restarts and timers; processes, proxies, clients and
the clock are false, so that hours pass in milliseconds. A seed makes a schedule and everything that happens in it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.sim import schedule as schedules
from tests.faults.sim.agenda import Agenda, Violation
from tests.faults.sim.schedule import Schedule
from tests.faults.sim.world import patched

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Failure:
    """A schedule that broke a rule, as short as it gets, and what happened in it."""

    seed: int
    violation: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.violation}\n" + "\n".join(self.trace)


def broken(schedule: Schedule, verbose: bool = False) -> tuple[Violation, list[str]] | None:
    """What a schedule breaks, and its trace; None if every rule holds."""
    agenda = Agenda(schedule.seed + 1, verbose)
    with patched(lambda: agenda):
        try:
            schedules.run(schedule, agenda)
        except Violation as violation:
            return violation, agenda.trace
    return None


def _rule(schedule: Schedule) -> str | None:
    found = broken(schedule)
    return found[0].rule if found else None


def check(seed: int) -> Failure | None:
    """Runs one seed; the schedule of one that fails is made shorter."""
    schedule = schedules.make(seed)
    if (found := broken(schedule)) is None:
        return None
    rule = found[0].rule
    short = schedules.shorter(schedule, rule, _rule)
    again = broken(short, verbose=True)
    assert again is not None
    names = ("max_models", "memory", "proxies", "bad", "copies")
    limits = " ".join(f"{name}={getattr(short, name)}" for name in names)
    return Failure(seed, str(again[0]), (limits, *again[1]))


def chunk(seeds: range) -> list[Failure]:
    return [failure for seed in seeds if (failure := check(seed)) is not None]


def failures(first: int, count: int) -> Iterator[list[Failure]]:
    """Runs `count` seeds on all cores; yields what failed, chunk by chunk."""
    chunks = [range(at, min(at + _CHUNK, first + count)) for at in range(first, first + count, _CHUNK)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(len(chunks), os.cpu_count() or 1), logging.disable, (logging.CRITICAL,)) as pool:
        yield from pool.imap_unordered(chunk, chunks)


def simulate(count: int, first: int, most: int = 5) -> int:
    """The command: prints failing seeds with their traces. Returns the exit code."""
    began, bad = time.monotonic(), 0
    for found in failures(first, count):
        for failure in found:
            bad += 1
            if bad <= most:
                print(failure, end="\n\n", flush=True)
    took = time.monotonic() - began
    print(f"{count} schedules from seed {first}: {bad} failed, {took:.1f} s")
    return 1 if bad else 0
