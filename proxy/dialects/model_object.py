"""A model as clients see it. API.md, 2.2."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

from supervisor.card import Card
from supervisor.config import Model
from supervisor.control import Entry, Facts, ModelStatus, State

VALUES = {
    State.UNLOADED: "unloaded",
    State.DOWNLOADING: "downloading",
    State.LOADING: "loading",
    State.READY: "loaded",
    State.DRAINING: "loaded",  # the memory is still taken
    State.STOPPING: "loaded",
    State.BACKOFF: "unloaded",
    State.FAILED: "unloaded",
}
_RESIDENT = (State.LOADING, State.READY, State.DRAINING, State.STOPPING)
_ENDED_BADLY = (State.BACKOFF, State.FAILED)


class Worker(Protocol):
    """A replica of the model, as this process sees it."""

    status: ModelStatus

    @property
    def number(self) -> int: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def slots(self) -> int: ...


def model_object(
    entry: Entry, status: ModelStatus, in_flight: int, queued: int, admin: bool, workers: Sequence[Worker] = ()
) -> dict[str, Any]:
    """`in_flight` and `queued` count this process's requests. Facts are the loaded model's, else the file's.

    `workers`: its replicas, if there may be several.
    """
    model, card, facts = entry.model, entry.card or Card(), status.facts
    running = status.state in (State.LOADING, State.READY, State.DRAINING)
    context = _context(model, card, facts)
    named = {"name": model.title or card.name, "description": model.description}
    return {
        "id": model.name,
        "object": "model",
        "owned_by": "llamacpp",
        "created": card.modified,
        **{key: text for key, text in named.items() if text},
        **({"base": model.base} if model.base else {}),
        "aliases": list(model.aliases),
        "tags": list(model.tags),
        "path": model.path if admin else os.path.basename(model.path),
        "source": entry.source,
        "can_remove": entry.source == "cache",
        "status": _status(entry, status, queued, admin),
        "architecture": _architecture(card),
        "capabilities": _capabilities(card, facts),
        "context_length": context,
        "max_model_len": context,
        "meta": _meta(card, facts, context),
        "memory": _memory(entry, facts, max(1, sum(each.status.state in _RESIDENT for each in workers))),
        "runtime": _runtime(model, status, in_flight, admin, workers) if running else None,
        **({"replicas": [_replica(each, admin) for each in workers]} if workers else {}),
    }


def _replica(worker: Worker, admin: bool) -> dict[str, Any]:
    status = worker.status
    found: dict[str, Any] = {
        "replica": worker.number,
        "state": str(status.state),
        "since": status.since,
        "in_flight": worker.in_flight,
        "restarts": status.restarts,
    }
    if status.state is State.LOADING:
        found["progress"] = progress(status)
    told = {"retry_at": status.retry_at, "message": status.message, "signal": status.signal, "cause": status.cause}
    told |= {"stop_reason": status.stop_reason, "suspended": status.suspended, "pid": status.pid if admin else None}
    return found | {key: value for key, value in told.items() if value}


def _status(entry: Entry, status: ModelStatus, queued: int, admin: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "value": VALUES[status.state],
        "args": ["--mmproj", os.path.basename(entry.model.mmproj)] if entry.model.mmproj else [],
        "state": str(status.state),
        "since": status.since,
        "queued": queued,
        "restarts": status.restarts,
    }
    if status.state in _ENDED_BADLY:
        found |= {"failed": True, "exit_code": status.exit_code}
    if status.state is State.LOADING:
        found["progress"] = progress(status)
    if status.state is State.DOWNLOADING:
        found["progress"] = downloaded(status)
    told = {"retry_at": status.retry_at, "message": status.message, "signal": status.signal, "cause": status.cause}
    if entry.card and entry.card.cause and status.state is State.UNLOADED and not status.cause:
        told |= {"message": entry.card.problem, "cause": entry.card.cause}
    if status.blocked_by and status.state in (State.UNLOADED, State.BACKOFF):
        told["message"] = told["message"] or f"it waits for room, which {', '.join(status.blocked_by)} take"
        found["blocked_by"] = list(status.blocked_by)
    found |= {key: value for key, value in told.items() if value}
    if status.stop_reason:
        found["stop_reason"] = status.stop_reason
    if status.suspended:
        found["suspended"] = True
    if status.overrides:
        found["overrides"] = status.overrides
    if admin and status.log_tail:
        found["log_tail"] = list(status.log_tail[-20:])
    return found


def _context(model: Model, card: Card, facts: Facts | None) -> int:
    """Tokens of one request, as they are or will be."""
    if facts:
        return facts.n_ctx
    longest = card.n_ctx_train or model.n_ctx
    return min(model.n_ctx or longest, longest)


def progress(status: ModelStatus) -> dict[str, Any]:
    """How far a load is."""
    stages = ["text_model"]
    return {"stages": stages, "current": stages[0], "value": status.progress}


def downloaded(status: ModelStatus) -> dict[str, dict[str, int]]:
    """How far a download is, file by file."""
    return {url: {"done": done, "total": total} for url, (done, total) in status.files.items()}


def _architecture(card: Card) -> dict[str, list[str]]:
    able = card.capabilities
    senses = [*(["image"] if able.vision else []), *(["audio"] if able.audio else [])]
    return {"input_modalities": ["text", *senses], "output_modalities": ["embeddings" if able.embedding else "text"]}


def _capabilities(card: Card, facts: Facts | None) -> dict[str, bool]:
    """Those of the header; what the loaded model's template was seen to do counts more."""
    found = {name: getattr(card.capabilities, name) for name in card.capabilities.__struct_fields__}
    if facts and "supports_tools" in facts.template_caps:
        found["function_calling"] = facts.template_caps["supports_tools"]
    if facts:
        found |= {"embedding": facts.task == "embed", "reranker": facts.task == "rerank", "infill": facts.infill}
    return found


_OF_LLAMA = ("n_ctx_train", "n_vocab", "n_embd", "n_params", "size", "vocab_type")


def _meta(card: Card, facts: Facts | None, context: int) -> dict[str, Any] | None:
    known = facts or (card if card.architecture else None)
    if known is None:
        return None
    return {name: getattr(known, name) for name in _OF_LLAMA} | {
        "n_ctx": context,
        "arch": known.architecture,
        "ftype": facts.description if facts else card.quantization,
        "quantization": card.quantization,
        "files": card.files,
        "file_size": card.file_size,
    }


def _memory(entry: Entry, facts: Facts | None, times: int) -> dict[str, int | None]:
    """Bytes: as they should be, and as they are, or were at the last load; `times`: so many replicas take them."""
    measured = facts.memory if facts and facts.memory.devices else entry.memory
    found: dict[str, int | None] = {
        "estimated": sum(entry.estimated.values()) or None,
        "vram": None,
        "ram": None,
        "kv": None,
    }
    if measured:
        ram = measured.devices.get("ram", 0)
        sizes = {"vram": sum(measured.devices.values()) - ram, "ram": ram, "kv": measured.kv}
        found |= {name: size * times for name, size in sizes.items()}
    return found


def _runtime(
    model: Model, status: ModelStatus, in_flight: int, admin: bool, workers: Sequence[Worker]
) -> dict[str, Any]:
    facts = status.facts
    slots = facts.slots if facts else model.parallel
    slots = sum(each.slots for each in workers if each.status.state is State.READY) or slots
    found: dict[str, Any] = {
        "generation": status.generation,
        "in_flight": in_flight,
        "slots": {"total": slots, "busy": min(in_flight, slots)},
        "loaded_at": status.loaded_at,
        "pinned": model.pin,
        "load_ms": facts.load_ms if facts else None,
    }
    return found | ({"pid": status.pid} if admin else {})
