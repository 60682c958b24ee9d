"""Models: lists, loading, fetching, and what happens to them. API.md, 2 and 10."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.description.operation import LOOKS, NAMED, READS, TEXT, Access, Answer, Body, Operation, Parameter
from proxy.dialects.management import Fetch, Load, Unload
from supervisor.control import State

_TAG, _SWAP = "Models", "llama-swap"


class ModelState(Struct):
    """How a model is. `value` is llama-server's word for `state`; after a bad end there are `failed` and its cause."""

    value: Literal["unloaded", "downloading", "loading", "loaded"]
    args: list[str]
    state: State
    since: float
    queued: int
    restarts: int
    failed: bool | UnsetType = UNSET
    exit_code: int | UnsetType | None = UNSET
    progress: dict[str, Any] | UnsetType = UNSET
    retry_at: float | UnsetType = UNSET
    message: str | UnsetType = UNSET
    signal: str | UnsetType = UNSET
    cause: str | UnsetType = UNSET
    blocked_by: list[str] | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET
    suspended: bool | UnsetType = UNSET
    log_tail: list[str] | UnsetType = UNSET


class Memory(Struct):
    """Bytes: as estimated, and as measured now or at the last load."""

    estimated: int | None
    vram: int | None
    ram: int | None
    kv: int | None


class Model(Struct):
    """A model, loaded or not; `meta` is what its file's header says."""

    id: str
    object: Literal["model"]
    owned_by: str
    created: int
    aliases: list[str]
    tags: list[str]
    path: str
    source: str
    can_remove: bool
    status: ModelState
    architecture: dict[str, list[str]]
    capabilities: dict[str, bool]
    context_length: int
    max_model_len: int
    meta: dict[str, Any] | None
    memory: Memory
    runtime: dict[str, Any] | None
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    base: str | UnsetType = UNSET


class ModelList(Struct):
    """`reload_error`: what is wrong with the configuration, which stays as it was."""

    object: Literal["list"]
    data: list[Model]
    server: str
    reload_error: str | UnsetType = UNSET


class Done(Struct):
    """`already`: it was so; `base`: the model of which this is a variant."""

    success: bool
    already: bool | UnsetType = UNSET
    base: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    status: ModelState | UnsetType = UNSET


class ModelEvent(Struct):
    """`model` is "*" where it is about the list."""

    model: str
    event: str
    data: dict[str, Any] | UnsetType = UNSET


class RunningModel(Struct):
    model: str
    state: Literal["starting", "ready", "stopping"]
    cmd: str
    proxy: str
    ttl: int
    name: str
    description: str


class RunningModels(Struct):
    running: list[RunningModel]


class Message(Struct):
    msg: str


_ALL = Answer("OK, once they are gone.", media=TEXT)
_LOG = Answer("Lines as they come, the last ones first.", media=TEXT)
_HISTORY = Parameter("no-history", "only what comes from now on")

OPERATIONS = {
    "GET /v1/models": Operation(
        _TAG,
        "All models that the key may see",
        Answer("Facts, memory and state of each, loaded or not.", ModelList),
        query=(Parameter("reload", "1: read the configuration again and look for models first; for admins"),),
        refuses=LOOKS,
    ),
    "GET /v1/models/{id}": Operation(
        _TAG, "One model", Answer("Its facts, memory and state.", Model), refuses=(400, *LOOKS, 404)
    ),
    "POST /models/load": Operation(
        _TAG,
        "Loads a model",
        Answer("Once it is admitted; with `wait` once it is ready.", Done),
        Body("LoadRequest", (Load,), {"model": "smollm2", "wait": True}, {"overrides": {"type": "object"}}),
        (),
        (*READS, 500, 501, 503),
    ),
    "POST /models/unload": Operation(
        _TAG,
        "Unloads a model, once what runs has ended",
        Answer("Once it drains; with `wait` once it is gone.", Done),
        Body("UnloadRequest", (Unload,), {"model": "smollm2"}),
        (),
        (*READS, 501, 503),
    ),
    "POST /models": Operation(
        _TAG,
        "Fetches a model from the Hugging Face hub",
        Answer("Once the hub has said what there is.", Done),
        Body("FetchRequest", (Fetch,), {"model": "user/repo:Q4_K_M"}),
        (),
        (*READS, 409, 503),
        Access.ADMIN,
    ),
    "DELETE /models": Operation(
        _TAG,
        "Deletes a model that was fetched",
        Answer("Once it has stopped and its files are gone.", Done),
        None,
        (Parameter("model", "its id", required=True),),
        (*NAMED, 503),
        Access.ADMIN,
    ),
    "GET /models/sse": Operation(
        _TAG,
        "What happens to the models, as it happens",
        Answer("Events, with a snapshot first.", media="text/event-stream", record=ModelEvent),
        query=(
            Parameter("snapshot", "0: none"),
            Parameter("Last-Event-ID", "what was seen last: what came after it is sent", place="header"),
        ),
        refuses=LOOKS,
    ),
    "GET /running": Operation(_SWAP, "Models that are not stopped", Answer("They.", RunningModels), refuses=LOOKS),
    "GET /unload": Operation(_SWAP, "Unloads every model", _ALL, refuses=(*LOOKS, 503), access=Access.ADMIN),
    "POST /api/models/unload": Operation(
        _SWAP, "Unloads every model", Answer("Once they are gone.", Message), refuses=(*LOOKS, 503), access=Access.ADMIN
    ),
    "POST /api/models/unload/{id}": Operation(
        _SWAP, "Unloads one model", Answer("OK, once it is gone.", media=TEXT), refuses=(*NAMED, 503)
    ),
    "GET /logs": Operation(
        _SWAP,
        "The last lines of the log",
        Answer("Text; a browser is sent to the pages.", media=TEXT),
        query=(Parameter("model", "only this model's worker, also after its death"),),
        refuses=NAMED,
        access=Access.ADMIN,
    ),
    "GET /logs/stream": Operation(
        _SWAP, "The log as it is written", _LOG, query=(_HISTORY,), refuses=LOOKS, access=Access.ADMIN
    ),
    "GET /logs/stream/{which}": Operation(
        _SWAP,
        "The log of one part: `proxy`, `upstream` (all workers), or a model",
        _LOG,
        query=(_HISTORY,),
        refuses=NAMED,
        access=Access.ADMIN,
    ),
    "GET /api/events": Operation(
        _SWAP, "What happens, as llama-swap tells it", Answer("Events.", media="text/event-stream"), refuses=LOOKS
    ),
    "POST /api/inflight/{id}/cancel": Operation(
        _SWAP, "Ends a request that runs", Answer("It was there.", Message), refuses=(400, *LOOKS, 404, 503)
    ),
}
