"""What a table says of each model, from one look at the server or two. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.ctl.overview import Figures, Object, Overview
from supervisor.ctl.shown import span


@dataclass(frozen=True)
class Row:
    """One model. Bytes, seconds, tokens a second; None: not known. `total`: of all replies, since the look before.

    `replicas`: how many of it are ready, like "2 of 3"; "" if there is only one.
    """

    name: str
    state: str
    age: float
    progress: float | None
    retry: float | None
    memory: float | None
    vram: float | None
    in_flight: int
    queued: int
    speed: float | None
    total: float | None
    restarts: int
    failure: str
    replicas: str = ""


def rows(now: Overview, before: Overview | None = None) -> list[Row]:
    """A row for each model; `before` is an earlier look, from which rates are reckoned."""
    return [_row(model, now, before) for model in now.models]


def _row(model: Object, now: Overview, before: Overview | None) -> Row:
    name, status, runtime = model["id"], model["status"], model.get("runtime") or {}
    figures, queue = now.figures.get(name, Figures()), now.queues.get(name, {})
    state = str(status.get("state") or status["value"])  # a llama-server has no `state`
    return Row(
        name=name,
        state="suspended" if status.get("suspended") else state,
        age=max(0.0, now.at - status["since"]) if "since" in status else 0.0,
        progress=_progress(status),
        retry=max(0.0, status["retry_at"] - now.at) if status.get("retry_at") else None,
        memory=figures.memory,
        vram=(model.get("memory") or {}).get("vram") if runtime else None,
        in_flight=int(queue.get("in_flight", runtime.get("in_flight", 0))),
        queued=int(queue.get("queued", status.get("queued", 0))),
        speed=figures.speed or None,
        total=_total(name, now, before),
        restarts=int(status.get("restarts", 0)),
        failure=_failure(status, now.deaths.get(name), figures.causes, now.at),
        replicas=_replicas(model.get("replicas") or []),
    )


def _replicas(all_of_them: list[Object]) -> str:
    ready = sum(each.get("state") == "ready" for each in all_of_them)
    return f"{ready} of {len(all_of_them)}" if all_of_them else ""


def _progress(status: Mapping[str, Any]) -> float | None:
    """From 0 to 1, over all stages of a load or all files of a download."""
    progress = status.get("progress")
    if not isinstance(progress, dict):
        return None
    stages = progress.get("stages")
    if not stages:
        parts = [part for part in progress.values() if isinstance(part, dict)]
        total = sum(part.get("total") or 0 for part in parts)
        return sum(part.get("done") or 0 for part in parts) / total if total else None
    at = stages.index(progress["current"]) if progress.get("current") in stages else 0
    return float((at + float(progress.get("value") or 0.0)) / len(stages))


def _total(name: str, now: Overview, before: Overview | None) -> float | None:
    if before is None or now.clock <= before.clock:
        return None
    tokens = [(look.figures.get(name, Figures()).tokens or 0.0) for look in (before, now)]
    return max(0.0, tokens[1] - tokens[0]) / (now.clock - before.clock)


def _failure(status: Object, death: Object | None, causes: Mapping[str, int], at: float) -> str:
    """What is wrong now, else the last death that is known, else the causes of all."""
    if status.get("cause"):
        return _sentence(status)
    if death:
        ago = max(0.0, at - float(death.get("at", at)))
        return f"{_sentence(death)} ({span(ago)} ago)"
    return ", ".join(f"{cause} ×{times}" if times > 1 else cause for cause, times in causes.items())


def _sentence(told: Object) -> str:
    message = str(told.get("message") or told.get("signal") or "")
    return f"{told.get('cause')}: {message}" if message else str(told.get("cause"))
