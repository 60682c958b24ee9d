"""POST /rerank and its other names, in the form of Jina (`documents`) or of TEI (`texts`). API.md, 7.1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.dialects.fields import bad, typed
from proxy.dialects.reply import encode
from proxy.dialects.vectors import Found, VectorPlan, at_most
from proxy.errors import BadRequest
from worker.protocol import Rerank


class RerankFields(msgspec.Struct, frozen=True, kw_only=True):
    """`normalize`: scores between 0 and 1; `raw_scores`: TEI's word for the contrary."""

    query: str
    model: str = ""
    documents: list[Any] | None = None
    texts: list[Any] | None = None
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    return_text: bool = False
    return_documents: bool = False
    normalize: bool = False
    raw_scores: bool | None = None
    truncate: bool = False


def parse(body: dict[str, Any], request_id: str) -> RerankPlan:
    """The body of a request. Raises BadRequest."""
    fields = typed(body, RerankFields)
    if fields.documents is not None and fields.texts is not None:
        raise BadRequest("documents and texts exclude each other", "texts", "conflicting_fields")
    field = "texts" if fields.texts is not None else "documents"
    value = fields.documents if fields.texts is None else fields.texts
    if value is None:
        raise BadRequest("documents: required (list of strings)", "documents", "missing_field")
    if not value:
        raise bad((field,), "at least one string", value)
    at_most(value, field)
    documents = tuple(_text(item, field, index) for index, item in enumerate(value))
    ask = Rerank(0, request_id, fields.query, documents, fields.truncate, field)
    return RerankPlan(fields.model, ask, fields)


@dataclass(frozen=True)
class RerankPlan(VectorPlan):
    model: str
    ask: Rerank
    fields: RerankFields

    def body(self, model: str, found: Found) -> bytes:
        scores = [self._score(found.first(index)) for index in range(found.count)]
        best = sorted(range(found.count), key=lambda index: -scores[index])[: self.fields.top_n]
        if self.fields.texts is not None:
            return encode(list(self._tei(best, scores)))
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        return encode({"model": model, "object": "list", "usage": usage, "results": list(self._jina(best, scores))})

    @property
    def _shows(self) -> bool:
        return self.fields.return_text or self.fields.return_documents

    def _jina(self, best: list[int], scores: list[float]) -> Iterator[dict[str, Any]]:
        for index in best:
            text = {"document": {"text": self.ask.documents[index]}} if self._shows else {}
            yield {"index": index, "relevance_score": scores[index]} | text

    def _tei(self, best: list[int], scores: list[float]) -> Iterator[dict[str, Any]]:
        for index in best:
            text = {"text": self.ask.documents[index]} if self._shows else {}
            yield {"index": index, "score": scores[index]} | text

    def _score(self, raw: float) -> float:
        if not (self.fields.normalize or self.fields.raw_scores is False):
            return raw
        part = math.exp(-abs(raw))  # of the side that cannot overflow
        return 1 / (1 + part) if raw >= 0 else part / (1 + part)


def _text(item: Any, field: str, index: int) -> str:
    """A document: text, or an object that has it."""
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise bad((field, index, "text") if isinstance(item, dict) else (field, index), "string", text)
    return text
