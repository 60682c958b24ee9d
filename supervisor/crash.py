"""What is kept of a child's death: everything that the root knows of it, and nothing that anybody said."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import msgspec

from supervisor import machine
from supervisor.control import Death

if TYPE_CHECKING:
    from supervisor.nursery import Ended  # ctl reads reports, and has no use for processes

MOST_STACK = 64 * 1024  # characters
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that it served. Unix times; without `ended` it was lost."""

    id: str
    began: float
    ended: float | None = None


class CrashReport(msgspec.Struct, frozen=True, kw_only=True):
    """One death. Unix times, bytes; `memory` is at most a ping older than the death, `available` the machine's at it.

    `stack`: what faulthandler wrote, at a fatal signal or before a hung process was killed. `log_tail`: oldest first.
    """

    id: str
    death: Death
    born: float
    died: float
    phase: str
    phase_since: float
    memory: dict[str, int]
    requests: tuple[Request, ...]
    stack: str
    log_tail: tuple[str, ...]


def name(role: str, at: float) -> str:
    """The id of a report, which is also its file's name: when, who, and four digits of chance."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    who = _ODD.sub("-", role.removeprefix("w:")).strip("-.")[:48] or "child"
    return f"{when}-{who}-{os.urandom(2).hex()}"


def report(death: Death, end: Ended) -> CrashReport:
    """The report of a death that bears its id."""
    used = end.memory
    memory = {"resident": used.resident, "shared": used.shared, "peak": used.peak} if used else {}
    return CrashReport(
        id=death.report,
        death=death,
        born=round(death.at - end.lived, 3),
        died=death.at,
        phase=end.phase,
        phase_since=end.record.since,
        memory=memory | {"available": machine.available()},
        requests=tuple(Request(*served) for served in end.record.requests),
        stack=end.stack[-MOST_STACK:],
        log_tail=end.long_tail,
    )
