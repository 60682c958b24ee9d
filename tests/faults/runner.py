"""Runs rows against real servers under a crowd of streams, and makes one table of them."""

from __future__ import annotations

import itertools
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.faults import history
from tests.faults.crowd import Crowd
from tests.faults.drift import Usage, usage
from tests.faults.endings import Ending
from tests.faults.history import Absent, Hit
from tests.faults.rows import Row
from tests.faults.scene import MODELS, Scene, role, serve
from tests.faults.stands import ENDINGS, MIXED, MIXED_ENDINGS, STANDS, Stand

STREAMS = 15
Times = Callable[[Row | Ending], int]


@dataclass(slots=True)
class Result:
    """What came of a row. `recoveries`: seconds; `lost`: streams of the `streams` that ended with an error.

    `absent`: why this machine cannot make the fault. `notes`: figures of the row's own.
    """

    row: str
    fault: str
    n: int = 0
    violations: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    lost: int = 0
    streams: int = 0
    absent: str = ""
    seconds: float = 0.0
    notes: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)

    def took(self, part: float) -> float:
        """The quantile of the recoveries."""
        ordered = sorted(self.recoveries)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def stand(scene: Scene, row: Row, n: int) -> Result:
    """Lets a server live through a fault `n` times, then looks whether all is as it was."""
    result, hits, began = Result(row.number, row.fault), list[Hit](), time.monotonic()
    scene.ready()
    baseline = scene.baseline()
    with Crowd(scene.server.url, MODELS, STREAMS, scene.draw.randrange(2**30)) as scene.crowd:
        for _ in range(n):
            scene.pause()
            result.n += 1
            try:
                hits.append(row.act(scene))
                scene.ready()
            except Absent as absent:
                result.n, result.absent = result.n - 1, str(absent)
                break
            except Exception as error:  # whatever it is, the fault was not dealt with
                result.violations.append(_told(error))
                break
    result.recoveries = [hit.recovery for hit in hits]
    entries = scene.crowd.entries
    result.streams, result.lost = len(entries), history.lost(entries)
    result.violations += history.violations(entries, hits)
    result.violations += scene.untidy(baseline)
    result.notes, scene.counts = scene.counts, Counter()
    result.usage = usage(scene.server, time.monotonic(), role)
    if scene.note:
        result.notes[scene.note] += 1
        scene.note = ""
    result.seconds = time.monotonic() - began
    return result


def end(ending: Ending, n: int, seed: int, folder: Path) -> Result:
    """The same for a fault that no server survives, or that needs one of its own: each time another one."""
    result, began = Result(ending.number, ending.fault), time.monotonic()

    def once(number: int) -> None:
        place = folder / f"{ending.act.__name__}-{number}"
        try:
            if not result.absent:
                result.recoveries.append(ending.act(place, random.Random(f"{seed} {place.name}")))
                result.n += 1
        except Absent as absent:
            result.absent = str(absent)
        except Exception as error:
            result.n += 1
            result.violations.append(f"{place.name}: {_told(error)}")

    with ThreadPoolExecutor(ending.together) as pool:
        list(pool.map(once, range(n)))
    result.seconds = time.monotonic() - began
    return result


def matrix(rows: Sequence[str], times: Times, seed: int) -> Iterator[Result]:
    """All rows, or those with these numbers; each so many times."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        for number, place in enumerate(STANDS):
            chosen = [row for row in place.rows if not rows or row.number in rows]
            yield from _on(place, chosen, times, seed, Path(name) / f"stand-{number}")
        for ending in ENDINGS:
            if not rows or ending.number in rows:
                yield end(ending, times(ending), seed, Path(name))


def _on(place: Stand, chosen: Sequence[Row], times: Times, seed: int, folder: Path) -> Iterator[Result]:
    """Those rows that one server can live through, then those that take several."""
    if lasting := [row for row in chosen if not row.per_server]:
        with serve(folder, place.settings(folder)) as server:
            scene = Scene(server, random.Random(seed))
            scene.warm(place.models)
            for row in lasting:
                yield stand(scene, row, times(row))
    for row in [row for row in chosen if row.per_server]:
        apart = partial(_apart, place, row, times(row), seed, folder)
        with ThreadPoolExecutor(row.together) as pool:
            yield from pool.map(apart, range(0, times(row), row.per_server))


def _apart(place: Stand, row: Row, n: int, seed: int, folder: Path, done: int) -> Result:
    """A part of a row, on a server of its own; so many of the `n` times were others'."""
    here = folder / f"{row.act.__name__}-{done}"
    with serve(here, place.settings(here)) as server:
        scene = Scene(server, random.Random(f"{seed} {here.name}"))
        scene.warm(place.models)
        return stand(scene, row, min(row.per_server, n - done))


def soak(hours: float, seed: int, *, calm: bool = False) -> Iterator[Result]:
    """Row 39: faults of every kind in random order, for so long: on one server, and on others that they end.

    `calm`, row 40: none at all.
    """
    until, draw, place = time.monotonic() + hours * 3600, random.Random(seed), MIXED
    kinds: list[Row | Ending] = [Row("40", "nothing at all", _nothing, 1)] if calm else [*place.rows, *MIXED_ENDINGS]
    with tempfile.TemporaryDirectory(prefix="soak-") as name, serve(Path(name), place.settings(Path(name))) as server:
        scene = Scene(server, draw)
        scene.warm(place.models)
        for number in itertools.count():
            if time.monotonic() > until:
                return
            kind = draw.choice(kinds)
            if isinstance(kind, Row):
                yield stand(scene, kind, 1 if calm else draw.randint(1, 4))
            else:
                yield end(kind, 1, draw.randrange(2**30), Path(name) / f"{number}")


def _nothing(scene: Scene) -> Hit:
    """Requests, and the time that one takes."""
    began, times = time.monotonic(), []
    while time.monotonic() < began + 30:
        asked = time.monotonic()
        assert scene.say("a", "how are you").status_code == 200
        times.append(time.monotonic() - asked)
        scene.pause(0.5)
    return Hit(None, began, time.monotonic(), max(times))


def summed(results: Iterable[Result]) -> list[Result]:
    """One for each row."""
    found: dict[tuple[str, str], Result] = {}
    for each in results:
        total = found.setdefault((each.row, each.fault), Result(each.row, each.fault))
        total.n, total.lost, total.streams = total.n + each.n, total.lost + each.lost, total.streams + each.streams
        total.violations += each.violations
        total.recoveries += each.recoveries
        total.absent = total.absent or each.absent
        total.notes += each.notes
        total.seconds += each.seconds
    return sorted(found.values(), key=lambda result: int(result.row))


def table(results: Iterable[Result]) -> str:
    lines = [
        "| row | fault | n | violations | recovery p50 | p99 | streams lost / all |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        times = f"{result.took(0.5):.2f} s | {result.took(0.99):.2f} s"
        streams = f"{result.lost} / {result.streams}" if result.streams else "–"
        n = f"not here: {result.absent}" if result.absent and not result.n else str(result.n)
        lines.append(f"| {result.row} | {result.fault} | {n} | {len(result.violations)} | {times} | {streams} |")
    return "\n".join(lines)


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300] or where.line} ({Path(where.filename).name}:{where.lineno})"
