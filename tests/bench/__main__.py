"""`make bench`: every figure of the README's table, in a few minutes. Names of PARTS choose some of them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator

# What the root gives its workers; OpenMP reads it when it loads, so it must stand before anything imports it.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from tests.bench import decode, engine, front, grammar, http, meters, proxy_deltas, system, vectors
from tests.bench.table import Row, machine, markdown

PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "decode": decode.rows,
    "meters": meters.rows,
    "engine": engine.rows,
    "http": http.rows,
    "vectors": vectors.rows,
    "grammar": grammar.rows,
    "deltas": proxy_deltas.rows,
    "front": front.rows,
    "system": system.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or list(PARTS)
    rows = []
    for part in chosen:
        for row in PARTS[part]():
            print(f"  {row.what}: {row.figure}  {row.detail}", flush=True)
            rows.append(row)
    print(f"\n{machine()}\n\n{markdown(rows)}")


if __name__ == "__main__":
    main()
