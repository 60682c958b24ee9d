"""What grows while a server runs: its processes' memory, descriptors and threads, as slopes per hour. Row 40."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.e2e.server import Server

_SPAN = 600.0  # seconds; over less, a slope per hour is noise


@dataclass(frozen=True, slots=True)
class Usage:
    """By pid and role, at a monotonic time: resident bytes, descriptors, threads."""

    at: float = 0.0
    of: dict[tuple[int, str], tuple[int, int, int]] = field(default_factory=dict)


def usage(server: Server, now: float, role: object) -> Usage:
    """Of each process that has a role; one that has just gone is left out."""
    import psutil

    found = {}
    for process in server.family():
        try:
            name = role(process)  # type: ignore[operator]
            if name:
                sizes = process.memory_info().rss, process.num_fds(), process.num_threads()
                found[process.pid, name] = sizes
        except psutil.Error:
            continue
    return Usage(now, found)


def told(seen: Iterable[Usage]) -> list[str]:
    """A line for each process that lived through all of it; none if that was too short to say anything."""
    points = [usage for usage in seen if usage.of]
    if len(points) < 3 or points[-1].at - points[0].at < _SPAN:
        return []
    points = points[len(points) // 4 :]  # what a process needs at first is no growth
    lasting = sorted(set.intersection(*(set(point.of) for point in points)), key=lambda each: each[1])
    return [_line(name, points, (pid, name)) for pid, name in lasting]


def _line(name: str, points: Sequence[Usage], process: tuple[int, str]) -> str:
    hours = [(point.at - points[0].at) / 3600 for point in points]
    rss, fds, threads = (slope(hours, [point.of[process][kind] for point in points]) for kind in range(3))
    return f"{name}: {rss / 2**20:+.2f} MiB, {fds:+.2f} descriptors, {threads:+.2f} threads an hour"


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line of least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((at - mean_x) ** 2 for at in x)
    return sum((at - mean_x) * (value - mean_y) for at, value in zip(x, y, strict=True)) / spread if spread else 0.0
