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
    machine,
    names,
    noise,
    poison,
    races,
    reloads,
    rows,
    shortage,
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


def edge(folder: Path) -> str:
    """Whoever sends no whole request is cut off soon; and models that only odd requests ask."""
    return wire.TIMEOUTS + SETTINGS + edges.SETTINGS


STANDS = (
    Stand(_echo, (*rows.ROWS, *poison.ROWS, *reloads.ROWS, *clients.ROWS, *shortage.ROWS)),
    Stand(_real, (*files.ROWS, *turns.ROWS), ("slow", "broken", "cut", "m1", "m2")),
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
    *names.ENDINGS,
)
