"""`logs [MODEL] [-f]`: what the processes have logged, and what they log."""

from __future__ import annotations

import argparse
import codecs

from supervisor.ctl.client import Client, unknown_model
from supervisor.ctl.commands import Parsers
from supervisor.ctl.errors import BadUsage, Refused
from supervisor.ctl.output import Output


def add(parsers: Parsers) -> None:
    parser = parsers.add("logs", logs, "what a model's process has logged, even if it died, or all of them (admins)")
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="default: all processes, each line named")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what comes, until ^C")
    parser.add_argument("--lines", "-n", type=_count, metavar="N", help="the last N lines; with -f only 0 is possible")


def logs(client: Client, out: Output, words: argparse.Namespace) -> int:
    model: str = words.model
    if words.follow and words.lines:
        raise BadUsage("logs: --follow shows all that there is first; -n 0: nothing of it")
    try:
        if words.follow:
            return _follow(client, out, model, history=words.lines != 0)
        text = client.text("/logs", {"model": model} if model else {})
    except Refused as refused:
        raise unknown_model(client, model, refused) if refused.code == "model_not_found" else refused from None
    lines = text.splitlines()
    _print(out, lines if words.lines is None else lines[len(lines) - words.lines :] if words.lines else [])
    return 0


def _follow(client: Client, out: Output, model: str, *, history: bool) -> int:
    path = f"/logs/stream/{model}" if model else "/logs/stream"
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    with client.stream(path, {} if history else {"no-history": "1"}) as reply:
        for piece in reply.pieces():
            *lines, rest = (rest + decoder.decode(piece)).split("\n")
            _print(out, lines)
    return 0


def _print(out: Output, lines: list[str]) -> None:
    for line in lines:
        if out.json:
            out.object({"line": line})
        else:
            out.say(line)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a number of lines, got {text}")
    return value
