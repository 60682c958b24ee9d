"""Runs between pip and the terminal while llama-cpp-python compiles: keeps the whole log, shows one line of progress.

    pip install -v … 2>&1 | python progress.py LOG

On a terminal the line is redrawn every second; otherwise a new one is printed every 15 s. Standard library only.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

QUIET = 15.0
PHASES = {
    "Downloading llama_cpp_python": "downloading",
    "Installing build dependencies": "getting the build tools",
    "Configuring CMake": "configuring",
    "Building project with": "compiling",
    "\nInstalling collected packages": "installing",  # at a line's start: the build tools' own is indented
}
NINJA = re.compile(r"\s*\[(\d+)/(\d+)\] ")  # "[12/193] /usr/bin/g++ …"
MAKEFILES = re.compile(r"\s*\[ *(\d+)%\] ")  # "[ 12%] Building CXX object …"


class Progress:
    """Where the build is, from the lines of `pip install -v`."""

    def __init__(self) -> None:
        self.phase = "starting"
        self.steps = ""

    def feed(self, line: str) -> None:
        if match := NINJA.match(line):
            self.phase, self.steps = "compiling", f" {match[1]}/{match[2]} ({100 * int(match[1]) // int(match[2])} %)"
        elif match := MAKEFILES.match(line):
            self.phase, self.steps = "compiling", f" {match[1]} %"
        else:
            for sign, phase in PHASES.items():
                if sign in f"\n{line}":
                    self.phase, self.steps = phase, ""

    def __str__(self) -> str:
        return f"{self.phase}{self.steps}"


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def show(progress: Progress, done: threading.Event, out: TextIO) -> None:
    """Draws until `done`; a thread, as time must go on while the compiler says nothing."""
    start = time.monotonic()
    live = out.isatty()
    while not done.wait(1.0 if live else QUIET):
        line = f"llama-cpp-python: {progress}, {clock(time.monotonic() - start)}"
        out.write(f"\r\033[K  {line}" if live else f"  {line}\n")
        out.flush()
    if live:
        out.write("\r\033[K")
        out.flush()


def main(log: Path) -> None:
    progress, done = Progress(), threading.Event()
    drawing = threading.Thread(target=show, args=(progress, done, sys.stdout))
    drawing.start()
    try:
        with log.open("w", encoding="utf-8", buffering=1) as file:
            for raw in sys.stdin.buffer:
                line = raw.decode("utf-8", "replace")
                file.write(line)
                progress.feed(line)
    except KeyboardInterrupt:
        pass  # pip has it too, and its exit code is what counts
    finally:
        done.set()
        drawing.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
