"""POST /completion: llama.cpp's own completion, as one object, an array of them, or a stream. API.md, 7.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.dialects import native_object, results
from proxy.dialects.constraint import constraint
from proxy.dialects.fields import Fields, typed
from proxy.dialects.lazy_grammar import triggered
from proxy.dialects.openai_completions import prompts
from proxy.dialects.reply import Plan, Reply, encode
from proxy.sse import record
from worker.protocol import Generate, Infill, Probability, Progress, Text

_MAX_PATHS = 64


class NativeFields(Fields, frozen=True, kw_only=True):
    """The generation fields, and what only this family of routes has."""

    response_fields: Annotated[list[str], Meta(max_length=_MAX_PATHS, description=f"(at most {_MAX_PATHS})")] = (
        msgspec.field(default_factory=list)
    )


class Prompted(msgspec.Struct, frozen=True, kw_only=True):
    """What this route alone takes."""

    prompt: Any = None


def parse(body: dict[str, Any], request_id: str) -> Plan:
    """The body of a completion request. Raises BadRequest, Unsupported."""
    fields = typed(body, NativeFields)
    return plan(body, request_id, fields, [Text(pieces) for pieces in prompts(typed(body, Prompted).prompt)])


def plan(body: dict[str, Any], request_id: str, fields: NativeFields, found: Sequence[Text | Infill]) -> Plan:
    """Completions of these prompts, whatever route they came from. Raises BadRequest, Unsupported."""
    grammar, schema = constraint(body, fields)
    lazy = triggered(body, grammar)
    asks = [
        Generate(
            id=0,
            request_id=request_id,
            prompt=prompt,
            sampling=fields.sampling,
            stop=fields.stops,
            stream=fields.stream,
            cache_prompt=fields.cache_prompt,
            return_progress=fields.return_progress and fields.stream,
            n_probs=fields.n_probs or -1,
            post_sampling_probs=fields.post_sampling_probs,
            siblings=fields.siblings,
            grammar=grammar,
            json_schema=schema,
            grammar_triggers=lazy.triggers,
            preserved_tokens=lazy.preserved,
            t_max_predict_ms=fields.t_max_predict_ms,
            n_indent=fields.n_indent,
            return_tokens=fields.return_tokens or fields.stream,
            details=True,
            lora=fields.adapters,
        )
        for prompt in found
    ]
    return Plan(fields, asks, [""] * (len(asks) * (1 + len(fields.siblings))), NativeReply)


class NativeReply(Reply):
    """Choices in the order of the prompts; each ends with an object of its own, and a stream with the last of them."""

    fields: NativeFields

    def new_head(self, model: str, created: int) -> dict[str, Any]:
        return {}

    def first(self, index: int) -> bytes:
        return b""

    def text(self, index: int, text: str, extra: bytes, probs: Sequence[Probability] = ()) -> bytes:
        choice = self.choices[index]
        ids, choice.ids = choice.ids, []
        found = native_object.part(self, index, text, ids) | native_object.probabilities(self, probs)
        return record(encode(found)[:-1] + extra + b"}")

    def progress(self, index: int, event: Progress) -> bytes:
        found = native_object.part(self, index, "", [])
        return record(encode(found | {"prompt_progress": results.prompt_progress(event)}))

    def last(self, index: int) -> bytes:
        return record(encode(self._chosen(native_object.whole(self, index, "", []))))

    def end(self) -> bytes:
        return b""

    def object(self) -> Any:
        found = [self._object(index) for index in range(len(self.choices))]
        return found if len(found) > 1 else found[0]

    def _object(self, index: int) -> dict[str, Any]:
        choice = self.choices[index]
        found = native_object.whole(self, index, self.full_text(index), choice.ids)
        return self._chosen(found | native_object.probabilities(self, choice.probs))

    def _chosen(self, found: dict[str, Any]) -> dict[str, Any]:
        return native_object.chosen(found, self.fields.response_fields)
