"""`python -m tests.fuzz [PART …] [--seconds N] [--seed S] [--engine mutate|atheris]`: bytes that nobody has thought of.

Each module of this folder with a `run(options)` is a part; without names, all of them run. What fails is kept in
.cache/fuzz/PART-…, and `--replay FILE` gives it to the part once more. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType

import tests.fuzz

_NO_PARTS = ("__main__", "engine", "options")


def parts() -> dict[str, ModuleType]:
    """The parts by name."""
    names = [found.name for found in pkgutil.iter_modules(tests.fuzz.__path__)]
    wanted = [name for name in names if name not in _NO_PARTS and not name.startswith("test_")]
    modules = {name: importlib.import_module(f"tests.fuzz.{name}") for name in wanted}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def main(words: list[str]) -> int:
    known = parts()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help=f"some of: {', '.join(known)}; none: all")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each part (default: 30)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--engine", choices=("auto", "mutate", "atheris"), default="auto")
    parser.add_argument("--replay", type=Path, help="a file that failed")
    options = parser.parse_args(words)
    if unknown := set(options.part) - known.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    failed = [name for name in options.part or known if known[name].run(options)]
    print(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
