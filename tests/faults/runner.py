"""Runs rows against a real server under a crowd of streams, and makes one table of them."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import endings, history
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending
from tests.faults.history import Hit
from tests.faults.rows import ROWS, Row
from tests.faults.scene import MODELS, Scene, serve

STREAMS = 15


@dataclass(slots=True)
class Result:
    """What came of a row. `recoveries`: seconds; `lost`: streams of the `streams` that ended with an error."""

    row: str
    fault: str
    n: int = 0
    violations: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    lost: int = 0
    streams: int = 0

    def took(self, part: float) -> float:
        """The quantile of the recoveries."""
        ordered = sorted(self.recoveries)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def stand(scene: Scene, row: Row, n: int) -> Result:
    """Lets a server live through a fault `n` times, then looks whether all is as it was."""
    result, hits = Result(row.number, row.fault), list[Hit]()
    scene.ready()
    baseline = scene.baseline()
    with Crowd(scene.server.url, MODELS, STREAMS, scene.draw.randrange(2**30)) as scene.crowd:
        for _ in range(n):
            scene.pause()
            result.n += 1
            try:
                hits.append(row.act(scene))
                scene.ready()
            except Exception as error:  # whatever it is, the fault was not dealt with
                result.violations.append(_told(error))
                break
    result.recoveries = [hit.recovery for hit in hits]
    entries = scene.crowd.entries
    result.streams, result.lost = len(entries), history.lost(entries)
    result.violations += history.violations(entries, hits)
    result.violations += scene.untidy(baseline)
    return result


def end(ending: Ending, n: int, seed: int, folder: Path) -> Result:
    """The same for a fault that no server survives: each time another one."""
    result, draw = Result(ending.number, ending.fault), random.Random(seed)
    for number in range(n):
        result.n += 1
        try:
            result.recoveries.append(ending.act(folder / f"{ending.number}-{number}", draw))
        except Exception as error:
            result.violations.append(_told(error))
    return result


def matrix(rows: Sequence[str], n: Callable[[Row | Ending], int], seed: int) -> Iterator[Result]:
    """All rows, or those with these numbers."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        chosen = [row for row in ROWS if not rows or row.number in rows]
        if chosen:
            with serve(Path(name) / "standing") as server:
                scene = Scene(server, random.Random(seed))
                scene.warm()
                for row in chosen:
                    yield stand(scene, row, n(row))
        for ending in endings.ENDINGS:
            if not rows or ending.number in rows:
                yield end(ending, n(ending), seed, Path(name))


def soak(hours: float, seed: int) -> Iterator[Result]:
    """Row 39: faults of every kind in random order, on one server, for so long."""
    until, draw = time.monotonic() + hours * 3600, random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as name, serve(Path(name)) as server:
        scene = Scene(server, draw)
        scene.warm()
        while time.monotonic() < until:
            yield stand(scene, draw.choice(ROWS), draw.randint(1, 4))


def summed(results: Iterable[Result]) -> list[Result]:
    """One for each row."""
    found: dict[tuple[str, str], Result] = {}
    for each in results:
        total = found.setdefault((each.row, each.fault), Result(each.row, each.fault))
        total.n, total.lost, total.streams = total.n + each.n, total.lost + each.lost, total.streams + each.streams
        total.violations += each.violations
        total.recoveries += each.recoveries
    return sorted(found.values(), key=lambda result: int(result.row))


def table(results: Iterable[Result]) -> str:
    lines = [
        "| row | fault | n | violations | recovery p50 | p99 | streams lost / all |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        times = f"{result.took(0.5):.2f} s | {result.took(0.99):.2f} s"
        streams = f"{result.lost} / {result.streams}" if result.streams else "–"
        lines.append(f"| {result.row} | {result.fault} | {result.n} | {len(result.violations)} | {times} | {streams} |")
    return "\n".join(lines)


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300] or where.line} ({Path(where.filename).name}:{where.lineno})"
