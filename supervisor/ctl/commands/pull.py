"""`pull user/repo[:quant]`: a download, and how far it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.progress import Progress, TaskID

from supervisor.ctl import shown, sse
from supervisor.ctl.client import Client, Reply
from supervisor.ctl.commands import Parsers
from supervisor.ctl.commands.models import explained
from supervisor.ctl.errors import CtlError, Refused, Unreachable
from supervisor.ctl.output import Output

_SILENCE = 60.0  # seconds; the server sends a sign of life each 15 s
_TRIES = 5  # connections in a row that end without any event
_END = ("download_finished", "download_failed")


def add(parsers: Parsers) -> None:
    parser = parsers.add("pull", pull, "download a model from Hugging Face, and wait until it is there (admins)")
    parser.add_argument("model", metavar="USER/REPO[:QUANT]")
    parser.add_argument("--no-wait", action="store_true", help="only begin")


def pull(client: Client, out: Output, words: argparse.Namespace) -> int:
    name: str = words.model
    if words.no_wait:
        out.object(_begin(client, name))
        out.say(f"{name}: downloading")
        return 0
    with out.progress() as progress:
        end = _follow(client, out, name, Bars(progress))
    if end.event == "download_failed":
        raise CtlError(f"{end.model or name}: {end.data.get('message') or 'the download failed'}")
    out.say(f"{end.model or name}: {'there already' if end.event == 'already' else 'downloaded'}")
    return 0


def _begin(client: Client, name: str) -> Any:
    try:
        return client.post("/models", {"model": name}, patience=None)
    except Refused as refused:
        raise explained(client, name, refused, "POST /models") from None


@dataclass
class Bars:
    """One for each file."""

    progress: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def show(self, files: dict[str, Any]) -> None:
        for url, file in files.items():
            done, total = file.get("done") or 0, file.get("total") or None
            if url not in self.tasks:
                self.tasks[url] = self.progress.add_task(url.rpartition("/")[2][-40:], total=total, detail="")
            detail = f"{shown.size(done)} of {shown.size(total)}"
            self.progress.update(self.tasks[url], completed=done, total=total, detail=detail)


def _follow(client: Client, out: Output, name: str, bars: Bars) -> sse.Event:
    """The event with which the download ended; `already` if there was nothing to do.

    The events are listened to before the download is asked for, so that none is missed; a connection that breaks is
    made again, with the last event's id.
    """
    begun, last, tries = False, "", 0
    while True:
        try:
            headers = {"Last-Event-ID": last} if last else {}
            with _events(client, headers) as reply:
                if begun:
                    end = _state(client, name)
                else:
                    end, name = _start(client, out, name)
                if end:
                    return end
                begun = True
                for event in _of(name, sse.events(reply.lines())):
                    last, tries = event.id or last, 0
                    out.object({"model": event.model, "event": event.event, "data": event.data})
                    if event.event in _END:
                        return event
                    bars.show(event.data.get("progress") or {})
        except Unreachable:
            if not begun:
                raise
        if (tries := tries + 1) > _TRIES:
            raise Unreachable(f"{client.address}: the events of the download end at once; it may go on in the server")


@contextmanager
def _events(client: Client, headers: dict[str, str]) -> Iterator[Reply]:
    with ExitStack() as stack:
        try:
            reply = stack.enter_context(client.stream("/models/sse", {"snapshot": "0"}, headers, _SILENCE))
        except Refused as refused:
            if refused.status != 404:
                raise
            raise Refused(404, refused.error | {"message": "this server has no GET /models/sse; --no-wait"}) from None
        yield reply


def _start(client: Client, out: Output, name: str) -> tuple[sse.Event | None, str]:
    """Asks for the download; one that runs already is followed. Its end if there is one, and its name in the server."""
    try:
        answer = _begin(client, name)
    except Refused as refused:
        if refused.code != "model_exists":
            raise
        end = _state(client, name)
        if end is None or end.event == "download_failed":
            return end, name
        end = sse.Event("", end.model, "already", {})
        out.object({"model": end.model, "event": end.event, "data": {}})
        return end, name
    return None, str(answer.get("model") or name)


def _state(client: Client, name: str) -> sse.Event | None:
    """The end of a download that nobody saw; None while it goes on."""
    try:
        model = client.get(f"/models/{name}")
    except Refused:
        return None  # listed under another name, or not yet
    status = model["status"]
    if status["value"] == "downloading":
        return None
    if status.get("cause") == "download_error":
        return sse.Event("", model["id"], "download_failed", {"message": status.get("message", "")})
    return sse.Event("", model["id"], "download_finished", {})


def _of(name: str, events: Iterator[sse.Event]) -> Iterator[sse.Event]:
    """Those of this download. Without a quant in the name, the server has chosen one."""
    wanted = name.lower()
    for event in events:
        id = event.model.lower()
        same = id == wanted or (":" not in wanted and id.startswith(f"{wanted}:"))
        if same and event.event.startswith("download_"):
            yield event
