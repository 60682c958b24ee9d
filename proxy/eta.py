"""Pure: how long until a model is ready, from what the root says of it and of the length of its load."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.control import ModelStatus, State

_KNOWN = 0.05  # of a first load; before that its progress says nothing


def ready_in(
    status: ModelStatus, others: Mapping[str, ModelStatus], waited: float, max_wait: float, now: float
) -> float | None:
    """Seconds, None if nobody can know. `waited`: of those who wait for it, the longest; `now`: Unix time.

    Models that are in the way close at `max_wait` at the latest; what then still runs there is not counted.
    """
    load = _load(status)
    if status.state is State.READY:
        return None if status.suspended else 0.0
    if status.state is State.LOADING:
        return _rest(status, load, now)
    if load is None:
        return None
    if status.state is State.BACKOFF:
        return max(0.0, (status.retry_at or now) - now) + load
    if not status.blocked_by:
        return load
    before = [others[name] for name in status.blocked_by if name in others]
    loads = [_rest(each, _load(each), now) or 0.0 for each in before if each.state is State.LOADING]
    return max(0.0, max_wait - waited) + sum(loads) + load


def _load(status: ModelStatus) -> float | None:
    """Seconds that its last load took, or that it should take; a failed model has none to come."""
    return status.load_ms / 1000 or None if status.state is not State.FAILED else None


def _rest(status: ModelStatus, load: float | None, now: float) -> float | None:
    """Of a load under way."""
    gone = max(0.0, now - status.since)
    if load is not None:
        return max(0.0, load - gone)
    return gone * (1 - status.progress) / status.progress if status.progress >= _KNOWN else None
