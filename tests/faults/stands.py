"""All rows: those that a server lives through, each with the server it needs, and those that end one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests import models
from tests.faults import (
    clients,
    clock,
    edges,
    endings,
    files,
    hung,
    machine,
    names,
    noise,
    poison,
    races,
    reloads,
    rows,
    shortage,
    small,
    starved,
    turns,
    unkillable,
)
from tests.faults.endings import Ending
from tests.faults.rows import Row
from tests.faults.scene import MODELS, SETTINGS
from tests.fuzz import wire

_REAL = '[models.{name}]\nworker = "worker.main:main"\npath = "{path}"\nn_ctx = 512\nparallel = 2\n'


@dataclass(frozen=True, slots=True)
class Stand:
    """`settings` of a server whose files are in a folder, and the rows that it lives through one after the other.

    `models`: those that are loaded once before, as each leaves a log and what it knew behind.
    """

    settings: Callable[[Path], str]
    rows: tuple[Row, ...]
    models: tuple[str, ...] = ("slow",)


def _echo(folder: Path) -> str:
    return SETTINGS


def _real(folder: Path) -> str:
    """The crowd's echo workers beside models that llama.cpp computes."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = Path(models.tiny()).read_bytes()
    text = SETTINGS.replace('worker = "tests.echo_worker:main"', 'worker = "worker.main:main"')
    for name in (*MODELS, "slow"):
        text = text.replace(f"[models.{name}]", f'[models.{name}]\nworker = "tests.echo_worker:main"')
    for name in ("broken", "cut"):
        (folder / f"{name}.gguf").write_bytes(whole)
        text += _REAL.format(name=name, path=folder / f"{name}.gguf")
    return text + "".join(_REAL.format(name=name, path=models.smollm()) for name in ("m1", "m2"))


def _patient(folder: Path) -> str:
    """A small model that comes back after the wait that a server has by default, however often it has died."""
    own = _REAL.format(name="m1", path=models.smollm()) + "preload = true\n"
    waits = 'backoff = "500ms"\nstable_after = "1ms"\n'
    return SETTINGS.replace('backoff = "50ms"\nbackoff_max = "200ms"\n', waits) + own


def _strict(folder: Path) -> str:
    """Who is stopped is not waited for."""
    return SETTINGS.replace('suspended_timeout = "60s"', 'suspended_timeout = "4s"')


def edge(folder: Path) -> str:
    """Whoever sends no whole request is cut off soon; and models that only odd requests ask."""
    return wire.TIMEOUTS + SETTINGS + edges.SETTINGS


def _mixed(folder: Path) -> str:
    """What every row of the soak needs."""
    return wire.TIMEOUTS + _real(folder) + edges.SETTINGS


STANDS = (
    Stand(_echo, (*rows.ROWS, *poison.ROWS, *reloads.ROWS, *clients.ROWS, *shortage.ROWS)),
    Stand(_real, (*files.ROWS, *turns.ROWS), ("slow", "broken", "cut", "m1", "m2")),
    Stand(_patient, small.ROWS),
    Stand(_strict, rows.STOPPED),
    Stand(edge, edges.ROWS),
)
ENDINGS: tuple[Ending, ...] = (
    *endings.ENDINGS,
    *unkillable.ENDINGS,
    *machine.ENDINGS,
    *races.ENDINGS,
    *clock.ENDINGS,
    *noise.ENDINGS,
    *starved.ENDINGS,
    *hung.ENDINGS,
    *names.ENDINGS,
)
# of the soak: everything on one server, but for what takes minutes by itself, or all of the machine
MIXED = Stand(
    _mixed, tuple(row for stand in STANDS if stand.settings is not _strict for row in stand.rows), STANDS[1].models
)
MIXED_ENDINGS = tuple(ending for ending in ENDINGS if ending not in starved.ENDINGS)
