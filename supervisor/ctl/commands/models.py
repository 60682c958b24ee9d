"""`load`, `unload` and `rm`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.progress import Progress, TaskID

from supervisor.ctl import shown
from supervisor.ctl.client import Client, unknown_model
from supervisor.ctl.commands import Parsers
from supervisor.ctl.errors import BadUsage, CtlError, Refused
from supervisor.ctl.output import Output
from supervisor.ctl.overview import Overview
from supervisor.ctl.rows import rows
from supervisor.ctl.waiting import meanwhile

_LOOK = 0.2  # seconds between two looks at how far a load is


def add(parsers: Parsers) -> None:
    parser = parsers.add("load", load, "load a model")
    parser.add_argument("model", metavar="MODEL")
    _add_wait(parser, "until it is ready; exit code 1 if the load fails")
    parser = parsers.add("unload", unload, "unload a model, once the requests that run on it are done")
    parser.add_argument("model", nargs="?", default="", metavar="MODEL")
    parser.add_argument("--all", action="store_true", help="every model, and wait until they are gone")
    parser.add_argument("--force", action="store_true", help="do not let running requests finish (admins)")
    _add_wait(parser, "until its process is gone")
    parser = parsers.add("rm", remove, "delete the files of a model that was downloaded (admins)")
    parser.add_argument("model", metavar="MODEL")


def load(client: Client, out: Output, words: argparse.Namespace) -> int:
    answer, seconds = _command(client, out, words, "load", {})
    done = f"ready after {shown.span(seconds)}"
    _say(out, words, answer, {"done": done, "begun": "loading", "already": "loaded or loading already"})
    return 0


def unload(client: Client, out: Output, words: argparse.Namespace) -> int:
    if words.all == bool(words.model):
        raise BadUsage("unload: MODEL or --all")
    if words.all:
        out.object(client.post("/api/models/unload", {}, patience=None))
        out.say("all models: unloaded")
        return 0
    answer, seconds = _command(client, out, words, "unload", {"force": True} if words.force else {})
    done = "not loaded" if answer.get("already") else f"unloaded after {shown.span(seconds)}"
    _say(out, words, answer, {"done": done, "begun": "unloading", "already": "not loaded"})
    return 0


def remove(client: Client, out: Output, words: argparse.Namespace) -> int:
    try:
        answer = client.delete("/models", {"model": words.model})
    except Refused as refused:
        raise explained(client, words.model, refused, "DELETE /models") from None
    out.object(answer)
    out.say(f"{words.model}: deleted")
    return 0


def explained(client: Client, model: str, refused: Refused, route: str) -> Refused:
    """With a near miss, where the model is unknown; in plain words, where the route is."""
    if refused.code == "model_not_found":
        return unknown_model(client, model, refused)
    if refused.status == 405 or (refused.status == 404 and refused.code == "not_found"):
        error = refused.error | {"message": f"this server has no {route}; a newer one may"}
        return Refused(refused.status, error)
    return refused


def _command(
    client: Client, out: Output, words: argparse.Namespace, verb: str, more: dict[str, Any]
) -> tuple[Any, float]:
    """The server's answer, and how long it took. With --wait it comes when the model is there, or gone."""
    model, path, began = words.model, f"/models/{verb}", time.monotonic()
    body = {"model": model} | more
    try:
        if not words.wait:
            return client.post(path, body), 0.0
        body["wait"] = words.timeout if words.timeout is not None else True
        with out.progress() as progress:
            task = progress.add_task(model, total=1.0, detail="")
            answer = meanwhile(
                lambda: client.post(path, body, patience=None), lambda: _look(client, model, progress, task), _LOOK
            )
        return answer, time.monotonic() - began
    except Refused as refused:
        raise explained(client, model, refused, f"POST {path}") from None


def _look(client: Client, model: str, progress: Progress, task: TaskID) -> None:
    if progress.disable:
        return
    try:
        (row,) = rows(Overview([client.get(f"/models/{model}")], at=time.time()))
    except CtlError:
        return  # the call itself says what is wrong
    detail = f"{row.state}, {row.in_flight} in flight" if row.in_flight else row.state
    progress.update(task, completed=row.progress or 0.0, detail=detail)


def _say(out: Output, words: argparse.Namespace, answer: Any, texts: dict[str, str]) -> None:
    out.object(answer)
    how = "done" if words.wait else "already" if answer.get("already") else "begun"
    out.say(f"{words.model}: {texts[how]}")


def _add_wait(parser: argparse.ArgumentParser, until: str) -> None:
    parser.add_argument("--wait", action="store_true", help=f"wait {until}")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="with --wait: at most so long")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds more than 0, got {text}")
    return value
