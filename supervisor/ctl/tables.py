"""Tables that fit: which columns a width has room for, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from supervisor.ctl import shown
from supervisor.ctl.rows import Row

T = TypeVar("T")
_GAP = 2  # cells between two columns
_STYLES = {
    "ready": "green",
    "loading": "yellow",
    "downloading": "yellow",
    "draining": "cyan",
    "stopping": "cyan",
    "backoff": "magenta",
    "suspended": "magenta",
    "failed": "bold red",
    "unloaded": "dim",
}


@dataclass(frozen=True)
class Column(Generic[T]):
    """`keep`: those of the lowest number go first where there is no room. `flows`: may be broken into lines."""

    title: str
    text: Callable[[T], str]
    keep: int
    right: bool = False
    style: Callable[[T], str] = lambda row: ""
    flows: bool = False


_FLOW = 20  # cells that a column which flows needs


def fit(columns: Sequence[Column[T]], rows: Sequence[T], width: int) -> list[Column[T]]:
    """Those for which there is room, in their order; one at least."""
    kept = list(columns)
    while len(kept) > 1 and sum(_width(column, rows) + _GAP for column in kept) - _GAP > width:
        kept.remove(min(kept, key=lambda column: column.keep))
    return kept


def table(columns: Sequence[Column[T]], rows: Sequence[T], width: int) -> Table:
    found = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    kept = fit(columns, rows, width)
    for column in kept:
        justify: Any = "right" if column.right else "left"
        found.add_column(column.title, justify=justify, no_wrap=not column.flows, overflow="fold")
    for row in rows:
        found.add_row(*(Text(shown.clean(column.text(row)), style=column.style(row)) for column in kept))
    return found


def models(rows: Sequence[Row], width: int) -> Table:
    """`rows` of several looks have a total rate; a single look has none."""
    columns = _MODELS if any(row.total is not None for row in rows) else [c for c in _MODELS if c is not _TOTAL]
    return table(columns, rows, width)


def requests(rows: Sequence[dict[str, Any]], width: int, now: float) -> Table:
    """Rows of GET /requests or GET /activity; `now` is Unix time."""
    aged = [row | {"age": max(0.0, now - row["since"])} for row in rows]
    ended = any("outcome" in row for row in rows)
    return table(_ENDED if ended else _RUNNING, aged, width)


def deaths(rows: Sequence[dict[str, Any]], width: int, now: float) -> Table:
    """Rows of GET /admin/deaths; `now` is Unix time."""
    return table(_DEATHS, [row | {"ago": max(0.0, now - row["at"])} for row in rows], width)


def _width(column: Column[T], rows: Sequence[T]) -> int:
    widest = max(map(cell_len, (column.title, *(shown.clean(column.text(row)) for row in rows))))
    return min(widest, _FLOW) if column.flows else widest


def _state(row: Row) -> str:
    if row.progress is not None:
        return f"{row.state} {100 * row.progress:.0f} %"
    if row.replicas and row.state == "ready":
        return f"{row.state} {row.replicas}"
    return row.state if row.retry is None else f"{row.state}, {shown.span(row.retry)}"


def _memory(row: Row) -> str:
    """In memory, and on devices."""
    return f"{shown.size(row.memory)} + {shown.size(row.vram)}" if row.vram else shown.size(row.memory)


_TOTAL = Column[Row]("all/s", lambda row: shown.number(row.total), 4, right=True)
_MODELS: list[Column[Row]] = [
    Column("model", lambda row: row.name, 9),
    Column("state", _state, 8, style=lambda row: _STYLES.get(row.state, "")),
    Column("for", lambda row: shown.span(row.age), 2, right=True),
    Column("memory", _memory, 4, right=True),
    Column("in flight", lambda row: str(row.in_flight), 6, right=True),
    Column("queued", lambda row: str(row.queued), 5, right=True),
    Column("tokens/s", lambda row: shown.number(row.speed), 3, right=True),
    _TOTAL,
    Column("restarts", lambda row: str(row.restarts), 1, right=True),
    Column("last failure", lambda row: row.failure or shown.NONE, 7, flows=True),
]


def _ms(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: shown.span(None if row.get(name) is None else row[name] / 1000)


def _place(row: dict[str, Any]) -> str:
    place = row.get("queue_position")
    return f"{row['state']} {place}" if place else str(row["state"])


_ASKED: list[Column[dict[str, Any]]] = [
    Column("id", lambda row: str(row["id"]), 9),
    Column("model", lambda row: str(row["model"]), 8),
]
_DONE: list[Column[dict[str, Any]]] = [
    Column("prompt", lambda row: shown.count(row.get("prompt_tokens")), 4, right=True),
    Column("cached", lambda row: shown.count(row.get("cached_tokens")), 1, right=True),
    Column("generated", lambda row: shown.count(row.get("generated")), 5, right=True),
    Column("first token", _ms("first_ms"), 2, right=True),
    Column("key", lambda row: str(row.get("key") or shown.NONE), 3),
    Column("endpoint", lambda row: str(row["endpoint"]), 3),
]
_RUNNING: list[Column[dict[str, Any]]] = [
    *_ASKED,
    Column("state", _place, 7),
    Column("for", lambda row: shown.span(row["age"]), 6, right=True),
    *_DONE,
]
_ENDED: list[Column[dict[str, Any]]] = [
    *_ASKED,
    Column("outcome", lambda row: str(row.get("outcome") or shown.NONE), 7),
    Column("took", _ms("total_ms"), 6, right=True),
    Column("ago", lambda row: shown.span(row["age"]), 2, right=True),
    *_DONE,
]
_DEATHS: list[Column[dict[str, Any]]] = [
    Column("report", lambda row: str(row.get("report") or shown.NONE), 9),
    Column("process", lambda row: str(row["role"]), 8),
    Column("ago", lambda row: shown.span(row["ago"]), 6, right=True),
    Column("after", lambda row: shown.span(row.get("uptime_s")), 2, right=True),
    Column("phase", lambda row: str(row.get("phase") or shown.NONE), 3),
    Column("lost", lambda row: str(row.get("requests_lost", 0)), 4, right=True),
    Column("then", lambda row: str(row.get("action") or shown.NONE), 1),
    Column("cause", lambda row: f"{row['cause']}: {row['message']}", 7, flows=True),
]
