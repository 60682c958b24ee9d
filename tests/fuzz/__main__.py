"""`make fuzz`: the fuzzers, for longer than `make test` has time for. Names of PARTS choose some of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from tests.fuzz import over_http, posts

# How often (cases), from which seed; what came, in a line. Raises AssertionError with the case that broke something.
Part = Callable[[int, int], str]
PARTS: dict[str, tuple[Part, int]] = {  # with the cases of one run
    "posts": (posts.run, 100_000),
    "echo": (over_http.echo, 20_000),
    "model": (over_http.model, 2_000),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("-n", type=int, default=0, help="cases of each part (default: as many as take minutes)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first case (default: the time)")
    given = parser.parse_args()
    for name in given.parts or PARTS:
        part, usual = PARTS[name]
        count, began = given.n or usual, time.monotonic()
        print(f"{name}: {count:,} cases from seed {given.seed} …", flush=True)
        try:
            told = part(count, given.seed)
        except AssertionError as error:
            print(f"{name}: {error}")
            return 1
        print(f"{name}: {told}; {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
