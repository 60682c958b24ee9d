"""What llama-swap's clients are told by GET /api/events: models, log lines, requests in flight. Pure. API.md, 10."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from proxy.activity import Row
from proxy.dialects.model_object import model_object
from proxy.sse import event
from supervisor.control import Entry, ModelStatus, State

STATES = {
    State.LOADING: "starting",
    State.READY: "ready",
    State.DRAINING: "stopping",
    State.STOPPING: "stopping",
}
_encode = msgspec.json.Encoder().encode


class ModelState(msgspec.Struct, frozen=True):
    """One of the list in `modelStatus`."""

    id: str
    name: str
    description: str
    state: str
    unlisted: bool
    aliases: list[str]
    capabilities: dict[str, Any]
    context_length: int
    peerID: str = ""


class InFlight(msgspec.Struct, frozen=True):
    """A request that runs. `timestamp` is when it began; headers are never told."""

    id: str
    timestamp: str
    model: str
    req_path: str
    method: str
    remote_ip: str
    elapsed_ms: int
    resp_bytes: int
    req_headers: dict[str, str] = {}
    resp_headers: dict[str, str] = {}


class LogData(msgspec.Struct, frozen=True):
    source: Literal["proxy", "upstream"]
    data: str


class Snapshot(msgspec.Struct, frozen=True):
    requests: list[InFlight]
    operation: str = "snapshot"


class Upsert(msgspec.Struct, frozen=True):
    request: InFlight
    operation: str = "upsert"


class Remove(msgspec.Struct, frozen=True):
    id: str
    operation: str = "remove"


def message(kind: str, data: object) -> bytes:
    """One event; its data is JSON inside JSON."""
    return event("message", _encode({"type": kind, "data": _encode(data).decode()}))


def model_state(entry: Entry, status: ModelStatus) -> ModelState:
    shown = model_object(entry, status, 0, 0, admin=False)
    return ModelState(
        entry.model.name,
        shown.get("name", ""),
        entry.model.description,
        STATES.get(status.state, "stopped"),
        entry.model.hidden,
        list(entry.model.aliases),
        shown["capabilities"],
        shown["context_length"],
    )


def in_flight(row: Row, now: float) -> InFlight:
    """`now` is Unix time."""
    began = datetime.fromtimestamp(row.since, UTC).isoformat(timespec="milliseconds")
    elapsed = max(0, round((now - row.since) * 1000))
    return InFlight(row.id, began, row.model, row.endpoint, row.method, row.client or "", elapsed, row.sent_bytes or 0)


def difference(before: dict[str, Row], after: Iterable[Row], now: float) -> list[Upsert | Remove]:
    """What has become of the requests; one is told again when more of its answer has been sent."""
    present = {row.id: row for row in after}
    gone = [Remove(id) for id in before if id not in present]
    fresh = (row for id, row in present.items() if id not in before or before[id].sent_bytes != row.sent_bytes)
    return [*gone, *(Upsert(in_flight(row, now)) for row in fresh)]
