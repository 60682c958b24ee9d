"""`deaths [MODEL]` and `report [ID]`: which processes have died, and everything that is known of one such end."""

from __future__ import annotations

import argparse
import time
from typing import Any

import msgspec

from supervisor.crash import CrashReport, Request
from supervisor.ctl import shown, tables
from supervisor.ctl.client import Client, unknown_model
from supervisor.ctl.commands import Parsers
from supervisor.ctl.commands.models import explained
from supervisor.ctl.errors import CtlError, Refused
from supervisor.ctl.output import Output

_SHOWN = 5  # earlier reports that are named


def add(parsers: Parsers) -> None:
    parser = parsers.add("deaths", deaths, "the last deaths of workers and proxies, newest first (admins)")
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="those of one model")
    parser = parsers.add("report", report, "everything that is known of one death: stacks, log, requests (admins)")
    parser.add_argument("id", nargs="?", default="", metavar="ID", help="as `deaths` shows it; none: the last death")


def deaths(client: Client, out: Output, words: argparse.Namespace) -> int:
    answer = _deaths(client, words.model)
    found = list(answer["deaths"])
    out.object(found)
    if out.json:
        return 0
    if found:
        out.show(tables.deaths(found, out.console.width, time.time()))
    else:
        out.note("nothing has died since the server was started")
    if earlier := [id for id in answer.get("reports", ()) if id not in {death.get("report") for death in found}]:
        out.note(f"{len(earlier)} earlier reports, the last: {', '.join(map(str, earlier[:_SHOWN]))}")
    return 0


def report(client: Client, out: Output, words: argparse.Namespace) -> int:
    found = client.get(f"/admin/deaths/{words.id or _last(client)}")
    out.object(found)
    if not out.json:
        for line in _lines(msgspec.convert(found, CrashReport)):
            out.say(line)
    return 0


def _deaths(client: Client, model: str = "") -> dict[str, Any]:
    try:
        return dict(client.get("/admin/deaths", {"model": model} if model else {}))
    except Refused as refused:
        if refused.code == "model_not_found":
            raise unknown_model(client, model, refused) from None
        raise explained(client, model, refused, "GET /admin/deaths") from None


def _last(client: Client) -> str:
    answer = _deaths(client)
    for id in (*(death.get("report") for death in answer["deaths"]), *answer.get("reports", ())):
        if id:
            return str(id)
    raise CtlError("there is no report: nothing has died, or none are kept")


def _lines(found: CrashReport) -> list[str]:
    """A report for people."""
    death, memory = found.death, found.memory
    facts = {
        "report": found.id,
        "process": f"{death.role}, pid {death.pid}",
        "died": f"{shown.moment(found.died)}, after {shown.span(found.died - found.born)}",
        "cause": f"{death.cause}: {death.message}",
        "phase": found.phase + (f" for {shown.span(found.died - found.phase_since)}" if found.phase_since else ""),
        "exit": death.signal or f"code {death.exit_code}",
        "memory": f"{shown.size(memory.get('resident'))}, at most {shown.size(memory.get('peak'))}",
        "free": shown.size(memory.get("available")),
        "then": death.action,
    }
    lines = [f"{name:<8} {value}" for name, value in facts.items()]
    lost = [request for request in found.requests if request.ended is None]
    done = [request for request in found.requests if request.ended is not None]
    for title, requests in (("requests that it had begun:", lost), ("requests before:", done)):
        lines += ["", title, *(f"  {_request(each, found.died)}" for each in requests)] if requests else []
    lines += ["", "stacks:", *(f"  {line}" for line in found.stack.splitlines())] if found.stack else []
    return [*lines, "", "its last words:", *(f"  {line}" for line in found.log_tail)]


def _request(request: Request, died: float) -> str:
    return f"{request.id}  {shown.span((request.ended or died) - request.began)}"
