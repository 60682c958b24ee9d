"""A model as clients see it. API.md, 2.2."""

from __future__ import annotations

import os
from typing import Any

from supervisor.config import Model
from supervisor.control import Facts, ModelStatus, State

VALUES = {
    State.UNLOADED: "unloaded",
    State.LOADING: "loading",
    State.READY: "loaded",
    State.DRAINING: "loaded",  # the memory is still taken
    State.STOPPING: "loaded",
    State.BACKOFF: "unloaded",
    State.FAILED: "unloaded",
}
_ENDED_BADLY = (State.BACKOFF, State.FAILED)


def model_object(
    model: Model, status: ModelStatus, created: int, in_flight: int, queued: int, admin: bool
) -> dict[str, Any]:
    """`created` is the file's modification time; `in_flight` and `queued` count this process's requests."""
    running = status.state in (State.LOADING, State.READY, State.DRAINING)
    return {
        "id": model.name,
        "object": "model",
        "owned_by": "llamacpp",
        "created": created,
        "aliases": list(model.aliases),
        "path": model.path if admin else os.path.basename(model.path),
        "status": _status(status, queued, admin),
        "context_length": model.n_ctx,
        "max_model_len": model.n_ctx,
        "capabilities": _capabilities(model, status.facts),
        "meta": _meta(status.facts),
        "runtime": _runtime(model, status, in_flight, admin) if running else None,
    }


def _status(status: ModelStatus, queued: int, admin: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "value": VALUES[status.state],
        "args": [],
        "state": str(status.state),
        "since": status.since,
        "queued": queued,
        "restarts": status.restarts,
    }
    if status.state in _ENDED_BADLY:
        found |= {"failed": True, "exit_code": status.exit_code}
    if status.state is State.LOADING:
        found["progress"] = progress(status)
    told = {"retry_at": status.retry_at, "message": status.message, "signal": status.signal, "cause": status.cause}
    found |= {key: value for key, value in told.items() if value}
    if status.stop_reason:
        found["stop_reason"] = status.stop_reason
    if status.suspended:
        found["suspended"] = True
    if admin and status.log_tail:
        found["log_tail"] = list(status.log_tail[-20:])
    return found


def progress(status: ModelStatus) -> dict[str, Any]:
    """How far a load is."""
    stages = ["text_model"]
    return {"stages": stages, "current": stages[0], "value": status.progress}


def _capabilities(model: Model, facts: Facts | None) -> dict[str, bool]:
    """What is known: the worker's word once it has loaded, before that what the configuration says."""
    task = facts.task if facts else model.task
    if task == "auto":
        return {}
    found = {"embedding": task == "embed", "reranker": task == "rerank"}
    return found | ({"infill": facts.infill} if facts else {})


def _meta(facts: Facts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    names = ("n_ctx", "n_ctx_train", "n_vocab", "n_embd", "n_params", "size", "vocab_type")
    return {name: getattr(facts, name) for name in names} | {"arch": facts.architecture, "ftype": facts.description}


def _runtime(model: Model, status: ModelStatus, in_flight: int, admin: bool) -> dict[str, Any]:
    facts = status.facts
    slots = facts.slots if facts else model.parallel
    found: dict[str, Any] = {
        "generation": status.generation,
        "in_flight": in_flight,
        "slots": {"total": slots, "busy": min(in_flight, slots)},
        "loaded_at": status.loaded_at,
        "pinned": model.pin,
        "load_ms": facts.load_ms if facts else None,
    }
    return found | ({"pid": status.pid} if admin else {})
