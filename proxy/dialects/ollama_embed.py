"""POST /api/embed and /api/embeddings. API.md, 9."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.dialects.fields import typed
from proxy.dialects.ollama_names import shown
from proxy.dialects.reply import encode
from proxy.dialects.vectors import Found, VectorFields, VectorPlan
from worker.protocol import Embed


class EmbedFields(VectorFields, frozen=True, kw_only=True):
    input: Any = None
    truncate: bool = True


class OldFields(VectorFields, frozen=True, kw_only=True):
    prompt: Any = None
    truncate: bool = True


def parse(body: dict[str, Any], request_id: str) -> EmbedPlan | None:
    """The body of POST /api/embed; None: there is no input, so that it only loads. Raises BadRequest, Unsupported."""
    fields = typed(body, EmbedFields)
    if fields.input in ("", []):
        return None
    return EmbedPlan(fields.model, fields.embed(fields.input, "input", request_id))


def parse_old(body: dict[str, Any], request_id: str) -> OldPlan | None:
    """The body of POST /api/embeddings, as `parse`."""
    fields = typed(body, OldFields)
    if fields.prompt in (None, "", []):
        return None
    return OldPlan(fields.model, fields.embed(fields.prompt, "prompt", request_id))


def empty(model: str) -> dict[str, Any]:
    """The answer to a request that only loads."""
    return {"model": shown(model), "embeddings": []}


def empty_old(model: str) -> dict[str, Any]:
    return {"embedding": []}


@dataclass(frozen=True)
class EmbedPlan(VectorPlan):
    model: str
    ask: Embed
    began: float = field(default_factory=time.monotonic)

    def body(self, model: str, found: Found) -> bytes:
        head = {
            "model": shown(model),
            "total_duration": round((time.monotonic() - self.began) * 1e9),
            "load_duration": round(found.load_ms * 1e6),
            "prompt_eval_count": found.tokens,
        }
        vectors = b",".join(encode(found.rows(index)[0]) for index in range(found.count))
        return msgspec.json.encode(head)[:-1] + b',"embeddings":[%b]}' % vectors


@dataclass(frozen=True)
class OldPlan(EmbedPlan):
    def body(self, model: str, found: Found) -> bytes:
        return b'{"embedding":%b}' % encode(found.rows(0)[0])
