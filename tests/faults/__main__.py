"""`python -m tests.faults`: the matrix of faults on real processes; `simulate`: the pure core; `soak`: for hours."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from tests.faults import runner, simulator
from tests.faults.endings import Ending
from tests.faults.rows import Row
from tests.faults.runner import Result

_SLOW = {"8": 0.2, "10": 0.3, "11": 0.3, "7": 0.5, "18": 0.2, "26": 0.2, "27": 0.3}  # of n


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    run = verbs.add_parser("run", help="the matrix (default)")
    run.add_argument("-n", type=int, default=20, help="times that each fault is made; slow ones fewer (default: 20)")
    run.add_argument("--rows", default="", help="numbers of rows, like 1,4,42 (default: all)")
    simulate = verbs.add_parser("simulate", help="the pure core against random schedules")
    simulate.add_argument("--count", type=int, default=100_000, help="schedules (default: 100000)")
    soak = verbs.add_parser("soak", help="random faults on one server")
    soak.add_argument("--hours", type=float, default=1.0)
    for verb in (run, simulate, soak):
        verb.add_argument("--seed", type=int, default=0, help="of the (first) run (default: 0)")
    given = parser.parse_args(sys.argv[1:] or ["run"])
    if given.verb == "simulate":
        return simulator.simulate(given.count, given.seed)
    if given.verb == "soak":
        return show(runner.soak(given.hours, given.seed))
    rows = [row for row in given.rows.split(",") if row]

    def n(row: Row | Ending) -> int:
        return max(1, round(given.n * _SLOW.get(row.number, 1.0)))

    return show(runner.matrix(rows, n, given.seed))


def show(results: Iterable[Result]) -> int:
    """Prints each as it comes, then the table. The exit code: 1 if anything was violated."""
    seen = []
    try:
        for result in results:
            seen.append(result)
            print(f"{time.strftime('%H:%M:%S')} {result.row}: {result.fault}, {result.n} times", flush=True)
            for text in result.violations[:10]:
                print(f"    {text}", flush=True)
    except KeyboardInterrupt:
        pass  # what there is so far
    print(f"\n{runner.table(runner.summed(seen))}")
    return 1 if any(result.violations for result in seen) else 0


if __name__ == "__main__":
    sys.exit(main())
