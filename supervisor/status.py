"""How a model's state is told to the proxies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.control import ModelStatus, State
from supervisor.lifecycle import Model

_SHOWN = (State.DOWNLOADING, State.LOADING, State.BACKOFF)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the root sees of a model beside its state machine."""

    pid: int | None
    progress: float
    suspended: bool
    log_tail: tuple[str, ...]
    idle_timeout: float = -1.0
    blocked_by: tuple[str, ...] = ()
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    load_ms: float = 0.0
    lora: tuple[float, ...] = ()


def status(model: Model, observed: Observed, now: float, wall: float) -> ModelStatus:
    """The published form; `now` is monotonic, `wall` the same moment in Unix time."""
    failed = model.state in (State.BACKOFF, State.FAILED)
    return ModelStatus(
        name=model.name,
        state=model.state,
        since=wall + model.since - now,
        generation=model.generation,
        progress=observed.progress,
        cause=model.cause,
        message=model.message,
        exit_code=model.exit_code,
        signal=model.signal,
        stop_reason=model.stop_reason,
        restarts=model.restarts,
        retry_at=None if model.retry_at is None else wall + model.retry_at - now,
        retry_due=model.retry_at,
        suspended=observed.suspended,
        pid=observed.pid,
        loaded_at=wall + model.since - now if model.state is State.READY else None,
        log_tail=observed.log_tail if failed else (),
        facts=model.facts,
        idle_timeout=observed.idle_timeout,
        blocked_by=observed.blocked_by,
        files=dict(observed.files),
        overrides=dict(observed.overrides),
        load_ms=observed.load_ms,
        lora=observed.lora,
    )


def summary(models: Iterable[Model]) -> str:
    """`2 of 3 models ready, qwen3 failed: file_corrupt`."""
    by_state: dict[State, list[Model]] = defaultdict(list)
    for model in models:
        by_state[model.state].append(model)
    count = sum(map(len, by_state.values()))
    parts = [f"{len(by_state[State.READY])} of {count} models ready"]
    parts += [f"{len(by_state[state])} {state}" for state in _SHOWN if by_state[state]]
    parts += [f"{model.name} failed: {model.cause}" for model in by_state[State.FAILED]]
    return ", ".join(parts)
