"""`make fuzz`: the fuzzers, for longer than `make test` has time for. Names of PARTS choose some of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from tests.fuzz import (
    answers,
    described,
    engine,
    frames,
    grammars,
    headers,
    over_http,
    posts,
    settings,
    templates,
    wire,
)

# How often (cases), from which seed; what came, in a line. Raises AssertionError with the case that broke something.
Part = Callable[[int, int], str]
PARTS: dict[str, tuple[Part, int]] = {  # with the cases of one run
    "frames": (frames.run, 200_000),
    "headers": (headers.run, 400_000),
    "settings": (settings.run, 20_000),
    "grammars": (grammars.run, 400_000),
    "templates": (templates.run, 10_000),
    "answers": (answers.run, 10_000),
    "posts": (posts.run, 100_000),
    "echo": (over_http.echo, 20_000),
    "model": (over_http.model, 2_000),
    "wire": (wire.run, 20_000),
    "described": (described.run, 20_000),
}
PARSERS = {"frames": frames, "headers": headers, "settings": settings, "grammars": grammars, "templates": templates,
           "answers": answers}  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("-n", type=int, default=0, help="cases of each part (default: as many as take minutes)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first case (default: the time)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="give a parser what it has failed at")
    hint = f"atheris, for so long, for {', '.join(PARSERS)} (pip install atheris)"
    parser.add_argument("--atheris", type=int, metavar="SECONDS", help=hint)
    given = parser.parse_args(words)
    for name in given.parts or PARTS:
        part, usual = PARTS[name]
        if given.replay:
            PARSERS[name].fuzz(given.replay.read_bytes())
            continue
        if given.atheris:
            if name in PARSERS and engine.with_atheris(name, PARSERS[name].CORPUS, given.atheris, given.seed):
                return 1
            continue
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
    sys.exit(main(sys.argv[1:]))
