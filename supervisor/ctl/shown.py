"""Numbers as people read them. Pure."""

from __future__ import annotations

import time

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
NONE = "–"  # not known, or there is none


def size(value: float | None) -> str:
    """`5.2 GiB`, of bytes."""
    if value is None:
        return NONE
    unit = 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 100 else f"{value:.0f} {_UNITS[unit]}"


def span(seconds: float | None) -> str:
    """`0.4s`, `42s`, `3m 5s`, `2h 14m`, `9d 3h`."""
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    for unit, name, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // below}{part}"
    return f"{whole}s"


def moment(at: float) -> str:
    """`2026-11-22 22:53:01`, of a Unix time, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def number(value: float | None) -> str:
    """A rate: `7.31`, `146`."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def count(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def clean(text: str) -> str:
    """On one line, and without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)
