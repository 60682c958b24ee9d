"""`python -m tests.faults simulate`: the supervisor's core against random schedules."""

from __future__ import annotations

import argparse
import sys

from tests.faults import simulator


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    simulate = verbs.add_parser("simulate", help="the pure core against random schedules")
    simulate.add_argument("--count", type=int, default=100_000, help="schedules (default: 100000)")
    simulate.add_argument("--seed", type=int, default=0, help="of the first one; the others follow (default: 0)")
    given = parser.parse_args()
    return simulator.simulate(given.count, given.seed)


if __name__ == "__main__":
    sys.exit(main())
