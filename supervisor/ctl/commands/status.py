"""`status [MODEL]` and `top`: how the models are, once or again and again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from supervisor.ctl import overview, rows, shown, tables
from supervisor.ctl.client import Client
from supervisor.ctl.commands import Parsers
from supervisor.ctl.errors import CtlError, Unreachable
from supervisor.ctl.output import Output
from supervisor.ctl.overview import Overview

_SHORTEST = 0.1  # seconds between two looks


def add(parsers: Parsers) -> None:
    parser = parsers.add("status", status, "how the models are: state, memory, requests, speed, last failure")
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="one model, by id or alias")
    parser.add_argument("--watch", "-w", action="store_true", help="again and again, until ^C")
    _add_interval(parser)
    parser = parsers.add("top", top, "the models and the requests that run, again and again, until ^C")
    _add_interval(parser)


def status(client: Client, out: Output, words: argparse.Namespace) -> int:
    model: str = words.model

    def page(now: Overview, before: Overview | None) -> RenderableType:
        return tables.models(rows.rows(now, before), out.console.width)

    def look() -> Overview:
        return overview.look(client, model)

    if words.watch:
        return _watch(look, page, out, words.interval)
    found = look()
    out.object(overview.merged(found)[0] if model else overview.merged(found))
    if not out.json:
        out.show(page(found, None))
        _details(found, out) if model else None
    return 0


def top(client: Client, out: Output, words: argparse.Namespace) -> int:
    def page(now: Overview, before: Overview | None) -> RenderableType:
        width, running = out.console.width, _running(client)
        parts: list[RenderableType] = [
            Text(_headline(client, now, before)),
            Text(),
            tables.models(rows.rows(now, before), width),
        ]
        if running:
            parts += [Text(), tables.requests(running, width, now.at)]
        return Group(*parts)

    return _watch(lambda: overview.look(client), page, out, words.interval)


def _watch(
    look: Callable[[], Overview],
    page: Callable[[Overview, Overview | None], RenderableType],
    out: Output,
    interval: float,
) -> int:
    """Until ^C, which is its ordinary end. A server that has gone is asked again, once it was there."""
    before: Overview | None = None
    try:
        with Live(console=out.console, screen=True, auto_refresh=False) if out.live else _Plain(out) as live:
            while True:
                try:
                    now = look()
                    live.update(_shown(now, before, page, out), refresh=True)
                    before = now
                except Unreachable as error:
                    if before is None:
                        raise
                    live.update(Text(f"{error}\nasking again …"), refresh=True)
                    before = Overview([], at=before.at)
                time.sleep(interval)
    except KeyboardInterrupt:
        return 0


def _shown(
    now: Overview,
    before: Overview | None,
    page: Callable[[Overview, Overview | None], RenderableType],
    out: Output,
) -> RenderableType:
    if out.json:
        out.object(overview.merged(now))
        return Text()
    return page(now, before if before and before.models else None)


class _Plain:
    """In Live's place where nobody sees a screen change: one page below the other."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, what: RenderableType, *, refresh: bool) -> None:
        if refresh and not self._out.json:
            self._out.show(Group(what, Text()))


def _running(client: Client) -> list[dict[str, Any]]:
    try:
        return list(client.get("/requests"))
    except Unreachable:
        raise
    except CtlError:
        return []  # not for this key


def _headline(client: Client, now: Overview, before: Overview | None) -> str:
    found = rows.rows(now, before)
    ready = sum(row.state == "ready" for row in found)
    busy, waiting = sum(row.in_flight for row in found), sum(row.queued for row in found)
    text = f"{client.address} · {ready} of {len(found)} models ready · {busy} in flight, {waiting} queued"
    totals = [row.total for row in found if row.total is not None]
    return text + (f" · {shown.number(sum(totals))} tokens/s" if totals else "")


def _details(found: Overview, out: Output) -> None:
    """What a table of one model has no room for."""
    (model,) = found.models
    meta, runtime, memory = (model.get(part) or {} for part in ("meta", "runtime", "memory"))
    lines = {
        "aliases": ", ".join(model.get("aliases") or ()),
        "file": model.get("path"),
        "is": meta.get("ftype") or meta.get("arch"),
        "context": shown.count(model.get("context_length") or None),
        "needs": shown.size(memory["estimated"]) if memory.get("estimated") else "",
        "loaded in": shown.span(runtime["load_ms"] / 1000) if runtime.get("load_ms") else "",
        "pid": runtime.get("pid"),
    }
    out.say("")
    for name, value in lines.items():
        if value:
            out.say(f"{name:<10} {value}")
    if tail := model["status"].get("log_tail"):
        out.say("its last words:")
        for line in tail:
            out.say(f"  {line}")


def _add_interval(parser: argparse.ArgumentParser) -> None:
    text = "between two looks (default: 2)"
    parser.add_argument("--interval", type=_interval, default=2.0, metavar="SECONDS", help=text)


def _interval(text: str) -> float:
    value = float(text)
    if not _SHORTEST <= value <= 86400:
        raise argparse.ArgumentTypeError(f"expected seconds from {_SHORTEST:g} to 86400, got {text}")
    return value
