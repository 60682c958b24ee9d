"""`reload` and `stop`: the server as a whole."""

from __future__ import annotations

import argparse
import os
import select
import signal
from collections.abc import Mapping
from typing import Any

from supervisor.ctl import root
from supervisor.ctl.client import Client
from supervisor.ctl.commands import Parsers
from supervisor.ctl.errors import CtlError, Refused
from supervisor.ctl.output import Output

_CHANGES = {  # a model that is in two of them is told of by the later one
    "added": "new",
    "removed": "gone",
    "changed": "changed",
    "restarting": "changed while loaded: drains, and takes it at its next load",
}
_HEARD = 0.5  # seconds between two signals, so that they do not become one


def add(parsers: Parsers) -> None:
    parsers.add("reload", reload, "have the configuration read again, and model folders searched again (admins)")
    text = "stop a server on this machine: running streams finish first"
    parser = parsers.add("stop", stop, text)
    parser.description = (
        "Stops a server on this machine, as SIGTERM does: nobody new is admitted, running streams may finish within "
        "shutdown.drain_timeout. Its process is the one that listens at the address; it takes the right to send it a "
        "signal, and no API key. A server under systemd stops as well, and stays stopped unless its unit says "
        "Restart=always."
    )
    parser.add_argument("--now", action="store_true", help="do not let streams finish")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until it has gone")


def reload(client: Client, out: Output, words: argparse.Namespace) -> int:
    try:
        answer = client.post("/admin/reload", {}, patience=None)
    except Refused as refused:
        if refused.code != "not_found":
            raise
        error = refused.error | {"message": "this server has no POST /admin/reload; SIGHUP to its root does the same"}
        raise Refused(refused.status, error) from None
    out.object(answer)
    for line in _said(answer) or ["reloaded; no model has changed"]:
        out.say(line)
    return 0


def _said(answer: Mapping[str, Any]) -> list[str]:
    """A line for each model that is not as it was."""
    what = {name: text for field, text in _CHANGES.items() for name in answer.get(field) or ()}
    return [f"{name}: {text}" for name, text in what.items()]


def stop(client: Client, out: Output, words: argparse.Namespace) -> int:
    pid = root.find(client.address)
    try:
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except PermissionError:
        raise CtlError(f"the server, pid {pid}, belongs to another user, or you may not stop it") from None
    except ProcessLookupError:
        raise CtlError(f"the server, pid {pid}, has just gone") from None
    try:
        return _await(process, pid, out, words)
    finally:
        os.close(process)


def _await(process: int, pid: int, out: Output, words: argparse.Namespace) -> int:
    out.note(f"pid {pid} was told to stop")
    gone = words.now and _gone(process, _HEARD)
    if words.now and not gone:
        _again(process)
    if words.no_wait:
        out.object({"success": True, "pid": pid})
        return 0
    _gone(process, None)
    out.object({"success": True, "pid": pid})
    out.say("stopped")
    return 0


def _again(process: int) -> None:
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it was quick


def _gone(process: int, within: float | None) -> bool:
    """Whether the process has ended; waits for it. None: as long as it takes."""
    return bool(select.select([process], [], [], within)[0])
