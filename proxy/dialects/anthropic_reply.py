"""The answer to a messages request, streamed or as one object. API.md, 8 and 1.4."""

from __future__ import annotations

from typing import Any, assert_never

from proxy.dialects import error_shapes, partial_json, results
from proxy.dialects.blocks import Block, Closed, Grown, Kind, Opened, Step
from proxy.dialects.fields import Fields
from proxy.dialects.reply import encode
from proxy.dialects.single import Single
from proxy.errors import ApiError
from proxy.sse import SSE, Framing, event

_REASONS = {
    "eos": "end_turn",
    "word": "stop_sequence",
    "limit": "max_tokens",
    "context": "max_tokens",
    "tools": "tool_use",
}
_DELTAS = {
    Kind.TEXT: ("text_delta", "text"),
    Kind.REASONING: ("thinking_delta", "thinking"),
    Kind.CALL: ("input_json_delta", "partial_json"),
}


def _record(name: str, **data: Any) -> bytes:
    return event(name, encode({"type": name} | data))


def _ping(note: str) -> bytes:
    return _record("ping")


class MessageReply(Single):
    """A message, streamed or as one object."""

    framing = Framing(SSE.media_type, _ping)

    def __init__(self, request_id: str, model: str, fields: Fields) -> None:
        super().__init__(model, fields)
        self.id = results.new_id("msg_")
        self._request_id = request_id

    def object(self) -> dict[str, Any]:
        return self._message([_content(block, whole=True) for block in self.blocks.all], self._ending())

    def begin(self) -> bytes:
        return _record("message_start", message=self._message([], {"stop_reason": None, "stop_sequence": None}))

    def step(self, step: Step) -> bytes:
        index = step.block.index
        match step:
            case Opened(block):
                return _record("content_block_start", index=index, content_block=_content(block, whole=False))
            case Grown(block, text) if not text:
                return b""  # probabilities, which have no place here
            case Grown(block, text):
                kind, name = _DELTAS[block.kind]
                return _record("content_block_delta", index=index, delta={"type": kind, name: text})
            case Closed(block):
                signed = {"type": "signature_delta", "signature": ""}
                thought = block.kind is Kind.REASONING
                last = _record("content_block_delta", index=index, delta=signed) if thought else b""
                return last + _record("content_block_stop", index=index)
            case _:
                assert_never(step)

    def end(self) -> bytes:
        return _record("message_delta", delta=self._ending(), usage=self._usage()) + _record("message_stop")

    def failure(self, error: ApiError) -> bytes:
        return event("error", encode(error_shapes.anthropic(error, self._request_id)[1]))

    def _message(self, content: list[dict[str, Any]], ending: dict[str, Any]) -> dict[str, Any]:
        head = {"id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content}
        return head | ending | {"usage": self._usage()}

    def _ending(self) -> dict[str, Any]:
        word = self.finished.stop_word if self.finished and self.reason == "word" else None
        return {"stop_reason": _REASONS[self.reason], "stop_sequence": word}

    def _usage(self) -> dict[str, int]:
        cached = self.timings.cache_n
        return {
            "input_tokens": self.prompt_tokens - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": self.timings.predicted_n,
        }


def _content(block: Block, *, whole: bool) -> dict[str, Any]:
    """A block as it is at its end, or at its beginning."""
    text = block.text if whole else ""
    match block.kind:
        case Kind.TEXT:
            return {"type": "text", "text": text}
        case Kind.REASONING:
            return {"type": "thinking", "thinking": text, "signature": ""}
        case Kind.CALL:
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": partial_json.parse(text)}
        case _:
            assert_never(block.kind)
