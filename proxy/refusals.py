"""Why a model turns a request away, in the words a client gets."""

from __future__ import annotations

import time
from typing import Any

from proxy.errors import ApiError, LoadFailed, Unloaded
from supervisor.control import ModelStatus, State


def failure(status: ModelStatus, hold: float, fresh: bool, admin: bool) -> ApiError | None:
    """Why nobody can wait for this model now, or None. `fresh`: the load this request waited for failed just now.

    A back-off that ends within `hold` seconds is worth the wait.
    """
    rest = None if status.retry_due is None else max(0.0, status.retry_due - time.monotonic())
    if status.state is State.FAILED and status.cause == "insufficient_memory":
        code, way_out = status.cause, "a smaller n_ctx or parallel, or a larger [placement] memory, may help"
    elif status.state is State.FAILED:
        code, way_out = "model_failed", "POST /models/load by an admin tries it again"
    elif status.state is State.BACKOFF and (rest or 0.0) > hold:
        code, way_out = ("model_load_failed" if fresh else "model_backoff"), f"it is tried again in {rest or 0:.0f} s"
    else:
        return None
    known: dict[str, Any] = {
        "model": status.name,
        "cause": status.cause,
        "exit_code": status.exit_code,
        "signal": status.signal or None,
        "restarts": status.restarts,
    }
    if rest is not None:
        known["retry_in_s"] = round(rest, 1)
    if admin:
        known["log_tail"] = list(status.log_tail)
    text = f"{status.name} cannot be loaded: {status.message or status.cause}; {way_out}"
    return LoadFailed(code, text, retry_after=None if status.state is State.FAILED else rest, **known)


def queue_timeout(model: str, seconds: float, blocked_by: tuple[str, ...] = ()) -> ApiError:
    """`blocked_by`: the models that would have had to go."""
    why = f": it waited for room, which {', '.join(blocked_by)} take" if blocked_by else ""
    return ApiError("queue_timeout", f"{model} was not ready within {seconds:g} s{why}", model=model)


def unloaded(model: str, reason: str) -> ApiError:
    return Unloaded("model_unloaded", f"{model} was unloaded: {reason or 'on request'}", model=model)


def queue_full(model: str | None, queued: int, limit: int) -> ApiError:
    """`model` None: those for all models together are too many."""
    key = "max_queue" if model else "max_queue_total"
    text = f"too many requests wait for {model or 'models'} ([admission].{key})"
    error = ApiError("queue_full", text, queued=queued, limit=limit)
    error.fields |= {"model": model} if model else {}
    return error
