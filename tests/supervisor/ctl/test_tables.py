"""Tables on terminals of any width, and numbers in them."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from supervisor.ctl import shown, tables
from supervisor.ctl.rows import Row

FAILURE = "load_error: [models.b].path: not a GGUF file"


def row(name: str = "qwen3", state: str = "ready", **more: Any) -> Row:
    known: dict[str, Any] = {
        "age": 8040.0,
        "progress": None,
        "retry": None,
        "memory": 5.2 * 2**30,
        "vram": None,
        "in_flight": 2,
        "queued": 1,
        "speed": 146.2,
        "total": None,
        "restarts": 3,
        "failure": "",
    }
    return Row(name=name, state=state, **known | more)


ROWS = [row(), row("b", "failed", memory=None, speed=None, failure=FAILURE), row("c", "loading", progress=0.425)]


def printed(found: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(found)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_wide_table_has_everything_on_a_line_for_each_model() -> None:
    lines = printed(tables.models(ROWS, 200), 200)
    assert lines[0].split() == (
        ["model", "state", "for", "memory", "in", "flight", "queued", "tokens/s", "restarts", "last", "failure"]
    )
    assert lines[1].split() == ["qwen3", "ready", "2h", "14m", "5.2", "GiB", "2", "1", "146", "3", "–"]
    assert lines[2].endswith(FAILURE)  # brackets are text, not markup
    assert "loading 42 %" in lines[3]
    assert len(lines) == 4


@pytest.mark.parametrize("width", range(24, 120, 7))
def test_a_narrow_table_fits_and_says_at_least_how_each_model_is(width: int) -> None:
    lines = printed(tables.models(ROWS, width), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(word in text for word in ("qwen3", "ready", "failed", "loading 42 %"))


def test_columns_go_in_order_of_their_worth() -> None:
    def titles(width: int) -> set[str]:
        return {column.title for column in tables.fit(tables._MODELS, ROWS, width)}

    widths = [titles(width) for width in range(150, 10, -1)]
    assert all(after <= before for before, after in itertools.pairwise(widths))
    assert widths[0] == {column.title for column in tables._MODELS}
    assert "last failure" in titles(60)
    assert "restarts" not in titles(60)
    assert widths[-1] == {"model"}


def test_wide_characters_count_twice() -> None:
    narrow = tables.fit(tables._MODELS, [row("模型" * 10)], 60)
    wide = tables.fit(tables._MODELS, [row("ab" * 10)], 60)
    assert len(narrow) < len(wide)


def test_the_rate_of_all_replies_is_a_column_once_it_is_known() -> None:
    assert "all/s" not in printed(tables.models(ROWS, 200), 200)[0]
    assert "all/s" in printed(tables.models([row(total=3.5)], 200), 200)[0]


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    lines = printed(tables.models([row(failure="a\x1b[2Jb\nc")], 200), 200)
    assert lines[1].endswith("a [2Jb c")


def test_requests_that_run_and_those_that_ended() -> None:
    running = {"id": "r1", "model": "a", "endpoint": "/v1/x", "stream": True, "state": "queued", "since": 90.0}
    lines = printed(tables.requests([running | {"queue_position": 3}], 200, 100.0), 200)
    assert lines[1].split() == ["r1", "a", "queued", "3", "10s", "–", "–", "–", "–", "–", "/v1/x"]
    done = running | {"state": "done", "outcome": "cancelled", "total_ms": 1500.0, "generated": 1234, "key": "alice"}
    lines = printed(tables.requests([done], 200, 100.0), 200)
    assert lines[1].split() == ["r1", "a", "cancelled", "1.5s", "10s", "–", "–", "1,234", "–", "alice", "/v1/x"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0s"), (-1, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.6, "1m 0s"), (185, "3m 5s"), (8040, "2h 14m"),
     (3600 * 24 * 9 + 3 * 3600, "9d 3h"), (None, "–")],
)  # fmt: skip
def test_spans(seconds: float | None, text: str) -> None:
    assert shown.span(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (5.2 * 2**30, "5.2 GiB"), (300 * 2**20, "300 MiB"),
     (2**60, "1048576 TiB"), (None, "–")],
)  # fmt: skip
def test_sizes(size: float | None, text: str) -> None:
    assert shown.size(size) == text


@pytest.mark.parametrize(("rate", "text"), [(0.5, "0.50"), (12.34, "12.3"), (146.2, "146"), (None, "–")])
def test_rates(rate: float | None, text: str) -> None:
    assert shown.number(rate) == text
