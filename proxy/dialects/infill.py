"""POST /infill: what belongs between a prefix and a suffix; answered like /completion. API.md, 7.1."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.dialects import native_completion
from proxy.dialects.fields import typed
from proxy.dialects.native_completion import NativeFields
from proxy.dialects.reply import Plan
from worker.protocol import Chunk, Infill


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """Text from elsewhere in the project."""

    text: str
    filename: str = ""


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around the hole; `prompt` is how what fills it begins."""

    input_prefix: str
    input_suffix: str
    input_extra: list[Extra] = msgspec.field(default_factory=list)
    prompt: str = ""


def parse(body: dict[str, Any], request_id: str) -> Plan:
    """The body of an infill request. Raises BadRequest, Unsupported."""
    fields, hole = typed(body, NativeFields), typed(body, Hole)
    room = fields.sampling.max_tokens
    prompt = Infill(
        prefix=hole.input_prefix,
        suffix=hole.input_suffix,
        extra=tuple(Chunk(extra.text, extra.filename) for extra in hole.input_extra),
        prompt=hole.prompt,
        room=-1 if room is None else room,
    )
    return native_completion.plan(body, request_id, fields, [prompt])
