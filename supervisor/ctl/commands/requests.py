"""`requests` and `cancel ID`."""

from __future__ import annotations

import argparse
import time

from supervisor.ctl import tables
from supervisor.ctl.client import Client, unknown_model
from supervisor.ctl.commands import Parsers
from supervisor.ctl.errors import Refused
from supervisor.ctl.output import Output


def add(parsers: Parsers) -> None:
    parser = parsers.add("requests", requests, "the requests that run or wait: own ones, or all for admins")
    parser.add_argument("--model", default="", metavar="MODEL", help="those of one model")
    parser.add_argument("--ended", action="store_true", help="the last that have ended, and how")
    parser = parsers.add("cancel", cancel, "end requests; their clients are told")
    parser.add_argument("id", nargs="+", metavar="ID", help="as `requests` shows it, or the id of the completion")


def requests(client: Client, out: Output, words: argparse.Namespace) -> int:
    query = {"model": words.model} if words.model else {}
    try:
        found = client.get("/activity", query)["recent"] if words.ended else client.get("/requests", query)
    except Refused as refused:
        raise unknown_model(client, words.model, refused) if refused.code == "model_not_found" else refused from None
    out.object(found)
    if out.json:
        return 0
    if found:
        out.show(tables.requests(found, out.console.width, time.time()))
    else:
        out.note("no request has ended yet" if words.ended else "no request is running")
    return 0


def cancel(client: Client, out: Output, words: argparse.Namespace) -> int:
    """All of them are tried; 1 if one was not there."""
    code = 0
    for id in words.id:
        try:
            out.object(client.post(f"/requests/{id}/cancel", {}))
            out.say(f"{id}: cancelled")
        except Refused as refused:
            if refused.code != "not_found":
                raise
            out.fail(refused)
            code = 1
    return code
