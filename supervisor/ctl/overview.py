"""How the models are: what several routes say, put together. `look` asks, `rows` is pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from supervisor.ctl.client import Client, unknown_model
from supervisor.ctl.errors import Refused
from supervisor.ctl.shown import span

_SPEED, _TOKENS = "llamacpp:predicted_tokens_seconds", "llamacpp:tokens_predicted_total"
_MEMORY, _RESTARTS = "llama_supervisor_memory_bytes", "llama_supervisor_restarts_total"
_NOT_HERE = (403, 404, 501)  # not for this key, or not known to this server
Object = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """Of one model. `speed`: tokens a second of one reply; `causes`: deaths that were followed by a restart."""

    memory: float | None = None
    speed: float | None = None
    tokens: float | None = None
    causes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Overview:
    """The server's objects. What a key may not see, or a server does not know, is not there."""

    models: list[Object]
    queues: dict[str, Object] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    deaths: dict[str, Object] = field(default_factory=dict)  # the last of each model
    at: float = 0.0  # Unix time of the look
    clock: float = 0.0  # the same, monotonic


@dataclass(frozen=True)
class Row:
    """One model. Bytes, seconds, tokens a second; None: not known. `total`: of all replies, since the look before."""

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


def look(client: Client, name: str = "") -> Overview:
    """Asks the server, about one model or all. Raises CtlError."""
    models = [one(client, name)] if name else list(client.get("/models")["data"])
    query = {"model": models[0]["id"]} if name else {}
    queues = (_allowed(client, "/queue") or {}).get("models", [])
    deaths = (_allowed(client, "/admin/deaths", query) or {}).get("deaths", [])
    return Overview(
        models,
        {queue["model"]: queue for queue in queues},
        parse(_page(client, query)),
        {death["model"]: death for death in reversed(deaths) if death.get("model")},
        time.time(),
        time.monotonic(),
    )


def one(client: Client, name: str) -> Object:
    """A model's object, by id or alias. Raises Refused, with a near miss."""
    try:
        found: Object = client.get(f"/models/{name}")
    except Refused as refused:
        raise unknown_model(client, name, refused) if refused.code == "model_not_found" else refused from None
    return found


def _allowed(client: Client, path: str, query: Mapping[str, str] | None = None) -> Any:
    """The answer, or None where this key or this server has none."""
    try:
        return client.get(path, query)
    except Refused as refused:
        if refused.status in _NOT_HERE:
            return None
        raise


def _page(client: Client, query: Mapping[str, str]) -> str:
    try:
        return client.text("/metrics", query)
    except Refused as refused:
        if refused.status in _NOT_HERE:
            return ""
        raise


def parse(page: str) -> dict[str, Figures]:
    """The figures of each model on a page of GET /metrics."""
    found: dict[str, dict[str, Any]] = {}
    names = {_SPEED: "speed", _TOKENS: "tokens"}
    for sample in (sample for family in text_string_to_metric_families(page) for sample in family.samples):
        model = sample.labels.get("model")
        if not model:
            continue
        mine = found.setdefault(model, {"causes": {}})
        if sample.name in names:
            mine[names[sample.name]] = sample.value
        elif sample.name == _MEMORY and sample.labels.get("kind") == "resident":
            mine["memory"] = sample.value
        elif sample.name == _RESTARTS and sample.value:
            mine["causes"][sample.labels.get("cause", "")] = int(sample.value)
    return {model: Figures(**values) for model, values in found.items()}


def rows(now: Overview, before: Overview | None = None) -> list[Row]:
    """A row for each model; `before` is an earlier look, from which rates are reckoned."""
    return [_row(model, now, before) for model in now.models]


def merged(found: Overview) -> list[Object]:
    """The model objects, each with what the other routes say of it under `live`. For --json."""
    return [model | {"live": _live(model, found)} for model in found.models]


def _live(model: Object, found: Overview) -> Object:
    name = model["id"]
    figures, queue = found.figures.get(name, Figures()), found.queues.get(name, {})
    return {
        "in_flight": queue.get("in_flight"),
        "queued": queue.get("queued"),
        "tokens_per_second": figures.speed,
        "tokens_total": figures.tokens,
        "resident_bytes": figures.memory,
        "restarts_by_cause": figures.causes,
        "last_death": found.deaths.get(name),
    }


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
    )


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
