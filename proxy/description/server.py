"""The server itself: health, figures, requests, and what administrators do. API.md, 3, 7.3, 11 and 12."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.description.operation import (
    LOOKS,
    MODEL,
    NAMED,
    READS,
    RUNS,
    TEXT,
    Access,
    Answer,
    Body,
    Operation,
    Parameter,
)
from proxy.routes.streams import Lookup

_TAG, _REQUESTS, _PAGES = "Server", "Requests", "Pages"


class Health(Struct):
    status: Literal["ok"]


class QueuedModel(Struct):
    """`eta_ms`: when it may be its turn; `blocked_by`: whom it waits for."""

    model: str
    state: str
    in_flight: int
    queued: int
    oldest_wait_ms: int
    eta_ms: int | UnsetType = UNSET
    blocked_by: list[str] | UnsetType = UNSET


class Queue(Struct):
    models: list[QueuedModel]
    queued: int
    limit: int


class RequestRow(Struct):
    """A request; `since` is Unix time, milliseconds count from there. Never what was said in it."""

    id: str
    model: str
    endpoint: str
    stream: bool
    state: Literal["queued", "loading", "prefill", "generating", "done"]
    since: float
    completion_id: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    queue_position: int | UnsetType = UNSET
    queue_ms: float | UnsetType = UNSET
    load_ms: float | UnsetType = UNSET
    first_ms: float | UnsetType = UNSET
    total_ms: float | UnsetType = UNSET
    prompt_tokens: int | UnsetType = UNSET
    cached_tokens: int | UnsetType = UNSET
    generated: int | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    status: int | UnsetType = UNSET


class Activity(Struct):
    running: list[RequestRow]
    recent: list[RequestRow]


class Success(Struct):
    success: bool


class StreamRow(Struct):
    """A stream that can be gone on with; times are Unix time."""

    conversation_id: str
    is_done: bool
    total_bytes: int
    started_at: float
    completed_at: float | None


class Death(Struct):
    """The end of a process that nobody asked for; `model` is null for a proxy."""

    model: str | None
    at: float
    cause: str
    message: str
    exit_code: int
    signal: str | None
    action: Literal["restart", "failed", "none"]
    log_tail: list[str]


class Deaths(Struct):
    deaths: list[Death]


class Reloaded(Struct):
    """Names of models. `incomplete`: the scan takes longer, the list will fill in."""

    success: bool
    added: list[str]
    removed: list[str]
    changed: list[str]
    restarting: list[str]
    incomplete: bool | UnsetType = UNSET


class KeyUsed(Struct):
    name: str
    in_flight: int
    requests: int
    refused: int
    prompt_tokens: int
    completion_tokens: int


class KeysUsed(Struct):
    keys: list[KeyUsed]


_PAGE = Answer("The page.", media="text/html")
_OFF = Answer("Never.")
_CONVERSATION = Parameter("conv_id", "what the client has called it", required=True)

OPERATIONS = {
    "GET /health": Operation(
        _TAG,
        "Whether the server is alive",
        Answer("It is.", Health),
        query=(Parameter("strict", "1: not healthy if any model has failed"),),
        refuses=(503,),
        access=Access.PUBLIC,
    ),
    "GET /metrics": Operation(
        _TAG, "Figures for Prometheus", Answer("A page of all models.", media=TEXT), query=(MODEL,), refuses=NAMED
    ),
    "GET /queue": Operation(_REQUESTS, "Who waits for what", Answer("A row for each model.", Queue), refuses=LOOKS),
    "GET /requests": Operation(
        _REQUESTS, "Requests that run", Answer("Own ones; for admins all.", list[RequestRow]), None, (MODEL,), NAMED
    ),
    "GET /activity": Operation(
        _REQUESTS, "Requests that run, and the last that ended", Answer("They.", Activity), None, (MODEL,), NAMED
    ),
    "POST /requests/{id}/cancel": Operation(
        _REQUESTS,
        "Ends a request, by its X-Request-Id or the id of its completion",
        Answer("It was there.", Success),
        refuses=(400, *LOOKS, 404),
    ),
    "GET /v1/stream": Operation(
        _REQUESTS,
        "Goes on with a stream that was cut",
        Answer("Its bytes from there on.", media="text/event-stream"),
        query=(_CONVERSATION, Parameter("from", "how many bytes are there already", int)),
        refuses=(*NAMED, 503),
    ),
    "DELETE /v1/stream": Operation(
        _REQUESTS,
        "Ends a stream and forgets it",
        Answer("Done, or there was none.", status=204),
        query=(_CONVERSATION,),
        refuses=(400, *LOOKS),
    ),
    "POST /v1/streams/lookup": Operation(
        _REQUESTS,
        "Which streams there are",
        Answer("A row for each.", list[StreamRow]),
        Body("LookupRequest", (Lookup,), {"conversation_ids": ["c"]}),
        (),
        READS,
    ),
    "GET /admin/deaths": Operation(
        _TAG,
        "The last deaths of workers and proxies, newest first",
        Answer("With cause and log.", Deaths),
        query=(MODEL, Parameter("limit", "at most so many", int)),
        refuses=NAMED,
        access=Access.ADMIN,
    ),
    "GET /admin/deaths/{id}": Operation(
        _TAG, "The report of a death", Answer("Text.", media=TEXT), refuses=NAMED, access=Access.ADMIN
    ),
    "GET /admin/tree": Operation(
        _TAG, "The processes", Answer("A row for each.", dict[str, Any]), refuses=LOOKS, access=Access.ADMIN
    ),
    "GET /admin/keys": Operation(
        _TAG, "What each key has used", Answer("Since the proxy began.", KeysUsed), refuses=LOOKS, access=Access.ADMIN
    ),
    "POST /admin/reload": Operation(
        _TAG,
        "Reads the configuration again, whole or not at all",
        Answer("What has changed.", Reloaded),
        refuses=(400, *LOOKS, 503),
        access=Access.ADMIN,
    ),
    "POST /v1/audio/transcriptions": Operation("Server", "Not built", _OFF, refuses=RUNS),
    "GET /tools": Operation(_TAG, "Turned off", _OFF, refuses=LOOKS),
    "POST /tools": Operation(_TAG, "Turned off", _OFF, refuses=LOOKS),
    "GET /cors-proxy": Operation(_TAG, "Turned off", _OFF, refuses=LOOKS),
    "POST /cors-proxy": Operation(_TAG, "Turned off", _OFF, refuses=LOOKS),
    "GET /openapi.json": Operation(
        _TAG, "This description", Answer("OpenAPI 3.1.", dict[str, Any]), access=Access.PUBLIC
    ),
    "GET /docs": Operation(_PAGES, "This description, to be read", _PAGE, access=Access.PUBLIC),
    "GET /": Operation(_PAGES, "The pages", _PAGE, access=Access.PUBLIC),
    "GET /index.html": Operation(_PAGES, "The pages", _PAGE, access=Access.PUBLIC),
    "GET /sw.js": Operation(
        _PAGES, "Their service worker", Answer("A script.", media="text/javascript"), access=Access.PUBLIC
    ),
}
