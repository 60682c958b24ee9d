"""POST /v1/embeddings (OpenAI's shape) and /embedding, /embeddings (llama.cpp's). API.md, 4.1 and 7.1."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from proxy.dialects.fields import typed
from proxy.dialects.reply import encode
from proxy.dialects.vectors import Found, VectorFields, VectorPlan
from worker.protocol import Embed


class OpenAiFields(VectorFields, frozen=True, kw_only=True):
    input: Any = None
    encoding_format: Literal["float", "base64"] = "float"


class NativeFields(VectorFields, frozen=True, kw_only=True):
    content: Any = None
    input: Any = None


def parse(body: dict[str, Any], request_id: str) -> OpenAiPlan:
    """The body of a request of OpenAI's. Raises BadRequest, Unsupported."""
    fields = typed(body, OpenAiFields)
    ask = fields.embed(fields.input, "input", request_id)
    return OpenAiPlan(fields.model, ask, fields.encoding_format == "base64")


def parse_native(body: dict[str, Any], request_id: str) -> NativePlan:
    """The body of a native request, where a model without pooling may answer. Raises BadRequest, Unsupported."""
    fields = typed(body, NativeFields)
    name = "content" if fields.content is not None else "input"
    return NativePlan(fields.model, fields.embed(getattr(fields, name), name, request_id, per_token=True))


@dataclass(frozen=True)
class OpenAiPlan(VectorPlan):
    model: str
    ask: Embed
    base64: bool

    def body(self, model: str, found: Found) -> bytes:
        usage = encode({"prompt_tokens": found.tokens, "total_tokens": found.tokens})
        data = b",".join(self._data(found))
        return b'{"object":"list","model":%b,"data":[%b],"usage":%b}' % (encode(model), data, usage)

    def _data(self, found: Found) -> Iterator[bytes]:
        for index in range(found.count):
            text = base64.b64encode(found.packed(index)).decode() if self.base64 else None
            vector = found.rows(index)[0] if text is None else text
            yield encode({"object": "embedding", "index": index, "embedding": vector})


@dataclass(frozen=True)
class NativePlan(VectorPlan):
    model: str
    ask: Embed

    def body(self, model: str, found: Found) -> bytes:
        entries = (encode({"index": index, "embedding": found.rows(index)}) for index in range(found.count))
        return b"[%b]" % b",".join(entries)
