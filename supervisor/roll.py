"""The roll of all processes of the tree, for GET /admin/tree. API.md, 11."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from supervisor import replicas
from supervisor.control import ModelStatus, Process
from supervisor.liveness import Verdict
from supervisor.nursery import Ward

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FIRST = ("root", "proxy", "w:", "standby", "download", "scan")  # in this order


def call(
    wards: Iterable[Ward], statuses: Iterable[ModelStatus], restarts: Mapping[str, int], now: float, wall: float
) -> list[Process]:
    """Everybody but the root. `restarts` are those of proxies, by role; `now` is monotonic, `wall` Unix time."""
    models = {f"w:{status.name}": status for status in statuses}
    rows = [_row(ward, models.get(ward.role), restarts.get(ward.role, 0), now, wall) for ward in wards]
    return sorted(rows, key=lambda row: (_place(row.role), row.role))


def root(born: float, now: float, wall: float) -> Process:
    """The root's own row; `born` is monotonic, too."""
    pid = os.getpid()
    return Process("root", pid, round(now - born, 3), "running", "idle", wall, rss=rss(pid))


def rss(pid: int) -> int | None:
    """A process's resident memory in bytes; None if it has just ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _row(ward: Ward, status: ModelStatus | None, restarts: int, now: float, wall: float) -> Process:
    vitals = ward.vitals
    return Process(
        ward.role,
        ward.child.pid,
        round(now - ward.born, 3),
        _state(ward, status),
        vitals.last.phase,
        round(wall - (now - vitals.moved_at), 3),
        model=replicas.base(status.name) if status else None,
        step=vitals.last.steps,
        pong_age_ms=round((now - vitals.ponged_at) * 1000) if vitals.ponged else None,
        rss=rss(ward.child.pid),
        restarts=status.restarts if status else restarts,
    )


def _state(ward: Ward, status: ModelStatus | None) -> str:
    """The model's state, or a word for a process that has none; what is wrong with it goes before."""
    if ward.unkillable:
        return "unkillable"
    if ward.verdict is not Verdict.HEALTHY:
        return ward.verdict.name.lower()
    if status is not None:
        return status.state
    return "stopping" if ward.stopping else "running" if ward.vitals.ponged else "starting"


def _place(role: str) -> int:
    return next((place for place, front in enumerate(_FIRST) if role.startswith(front)), len(_FIRST))
