"""How the models are: what several routes say of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from supervisor.ctl.client import Client, unknown_model
from supervisor.ctl.errors import Refused

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
