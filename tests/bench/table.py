"""Rows of the benchmark table: each a figure or a ratio taken within one run, with the goal it is held against."""

from __future__ import annotations

import os
import platform
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
