"""What a change of a model is called by those who watch. Pure. API.md, 2.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.dialects.model_object import VALUES, downloaded, progress
from supervisor.control import Death, ModelStatus, State

_UP = (State.READY, State.DRAINING)
_DOWN = (State.UNLOADED, State.BACKOFF, State.FAILED)


@dataclass(frozen=True, slots=True)
class Change:
    """One event. `info`: the whole model goes along; `progress`: worth nothing once the next one is there."""

    event: str
    data: dict[str, Any]
    info: bool = False
    progress: bool = False


def change(before: ModelStatus | None, after: ModelStatus) -> Change | None:
    """What watchers are told; None if nothing has changed for them."""
    if before is not None and _same(before, after):
        return None
    if after.state is State.LOADING:
        begun = before is None or before.state is not State.LOADING or before.generation != after.generation
        return Change("model_status", {"status": "loading"}) if begun else _loading(after)
    if after.state is State.DOWNLOADING:
        begun = before is None or before.state is not State.DOWNLOADING
        return Change("model_status", {"status": "downloading"}) if begun else _downloading(after)
    if before is not None and before.state is State.DOWNLOADING:
        failed = bool(after.message)
        return Change("download_failed", {"message": after.message}) if failed else Change("download_finished", {})
    if after.state is State.STOPPING and (before is None or before.state is State.LOADING):
        # Not "loaded", as the list says: whoever waits for the load would take that for its end.
        return Change("status_change", {"status": "loading", "state": "stopping"})
    return snapshot(after) if after.state not in _DOWN else _unloaded(after, begun=True)


def snapshot(status: ModelStatus) -> Change:
    """How a model is, for somebody who knows nothing of it."""
    if status.state is State.LOADING:
        return _loading(status)
    if status.state is State.DOWNLOADING:
        return Change("status_change", {"status": "downloading", "progress": downloaded(status)})
    if status.state in _DOWN:
        return _unloaded(status, begun=False)
    data: dict[str, Any] = {"status": VALUES[status.state]}
    if status.state is not State.READY:
        data["state"] = str(status.state)
    if status.suspended:
        data["suspended"] = True
    return Change("status_change", data, info=status.state in _UP)


def death(death: Death) -> dict[str, Any]:
    """A death record. API.md, 11."""
    found: dict[str, Any] = msgspec.to_builtins(death)
    del found["type"]
    found["model"] = found["model"] or None
    found["signal"] = found["signal"] or None
    if found["retry_in_s"] is None:
        del found["retry_in_s"]
    found["report"] = found["report"] or None
    return found


def _same(before: ModelStatus, after: ModelStatus) -> bool:
    if (before.state, before.generation, before.suspended) != (after.state, after.generation, after.suspended):
        return False
    if after.state is State.DOWNLOADING:
        return before.files == after.files
    return after.state is not State.LOADING or before.progress == after.progress


def _loading(status: ModelStatus) -> Change:
    return Change("status_change", {"status": "loading", "progress": progress(status)}, progress=True)


def _downloading(status: ModelStatus) -> Change:
    return Change("download_progress", {"progress": downloaded(status)}, progress=True)


def _unloaded(status: ModelStatus, begun: bool) -> Change:
    """`begun`: it was there before. An exit code in the snapshot would say that a load has failed just now."""
    failed = status.state in (State.BACKOFF, State.FAILED)
    data: dict[str, Any] = {"status": "unloaded"}
    if failed:
        data["exit_code"] = status.exit_code or 1  # clients take 0 for a planned end
    elif begun:
        data["exit_code"] = 0
    told = {"stop_reason": status.stop_reason, "cause": status.cause, "message": status.message}
    told |= {"signal": status.signal} if failed else {}
    data |= {key: value for key, value in told.items() if value}
    return Change("status_change", data)
