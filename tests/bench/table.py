"""Rows of the benchmark table: each a figure or a ratio taken within one run, with the goal it is held against."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """`met` is None where there is no goal."""

    what: str
    figure: str
    detail: str = ""
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Pairs:
    """Two ways of one thing, measured in turn: a busy machine slows both of a pair alike, and their ratio stands."""

    first: list[float]
    second: list[float]

    @property
    def ratio(self) -> float:
        """second ÷ first, the median over the pairs."""
        return statistics.median(ours / theirs for theirs, ours in zip(self.first, self.second, strict=True))

    @property
    def rates(self) -> str:
        """Both in tokens/s, for the table."""
        first, second = statistics.median(self.first), statistics.median(self.second)
        return f"{first:.0f} → {second:.0f} tokens/s, medians of {len(self.first)} pairs"


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| what | figure | goal | detail |", "|---|---|---|---|"]
    for row in rows:
        verdict = "" if row.met is None else (" ✓" if row.met else " ✗")
        lines.append(f"| {row.what} | {row.figure} | {row.goal}{verdict} | {row.detail} |")
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores, kernel and Python, for the line above the table."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
