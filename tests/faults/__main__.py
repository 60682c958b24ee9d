"""`python -m tests.faults`: the matrix of faults on real processes; `simulate`: the pure core; `soak`: for hours."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable

from tests.faults import drift, runner, simulator
from tests.faults.endings import Ending
from tests.faults.rows import Row
from tests.faults.runner import Result


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    run = verbs.add_parser("run", help="the matrix (default)")
    run.add_argument("-n", type=int, help="times that each fault is made (default: each row's own)")
    run.add_argument("--part", type=float, default=1.0, help="of each row's own number (default: 1)")
    run.add_argument("--rows", default="", help="numbers of rows, like 1,4,42 (default: all)")
    simulate = verbs.add_parser("simulate", help="the pure core against random schedules")
    simulate.add_argument("--count", type=int, default=100_000, help="schedules (default: 100000)")
    soak = verbs.add_parser("soak", help="random faults on one server")
    soak.add_argument("--hours", type=float, default=1.0)
    soak.add_argument("--calm", action="store_true", help="no faults: does anything grow?")
    for verb in (run, simulate, soak):
        verb.add_argument("--seed", type=int, default=0, help="of the (first) run (default: 0)")
    given = parser.parse_args(sys.argv[1:] or ["run"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what there is so far is shown
    if given.verb == "simulate":
        return simulator.simulate(given.count, given.seed)
    if given.verb == "soak":
        return show(runner.soak(given.hours, given.seed, calm=given.calm))
    rows = [row for row in given.rows.split(",") if row]

    def times(row: Row | Ending) -> int:
        return given.n or max(1, round(row.short * given.part))

    return show(runner.matrix(rows, times, given.seed))


def show(results: Iterable[Result]) -> int:
    """Prints each as it comes, then the table. The exit code: 1 if anything was violated."""
    seen = []
    try:
        for result in results:
            seen.append(result)
            made = f"{result.row}: {result.fault}, {result.n} times in {result.seconds:.0f} s"
            print(f"{time.strftime('%H:%M:%S')} {made}, load {os.getloadavg()[0]:.1f}", flush=True)
            for text in [*result.violations[:10], *(f"({times} ×) {what}" for what, times in result.notes.items())]:
                print(f"    {text}", flush=True)
    except KeyboardInterrupt:
        pass  # what there is so far
    print(f"\n{runner.table(runner.summed(seen))}")
    for line in drift.told(result.usage for result in seen):
        print(line)
    return 1 if any(result.violations for result in seen) else 0


if __name__ == "__main__":
    sys.exit(main())
