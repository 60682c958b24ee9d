"""The answers of /api/chat and /api/generate: lines of JSON, or one object. API.md, 9."""

from __future__ import annotations

import datetime
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, assert_never

from proxy.dialects import error_shapes, logprobs, partial_json
from proxy.dialects.blocks import Block, Closed, Grown, Kind, Opened, Step
from proxy.dialects.fields import Fields
from proxy.dialects.ollama_names import shown
from proxy.dialects.reply import encode
from proxy.dialects.single import Single
from proxy.errors import ApiError
from proxy.sse import NDJSON, line
from worker.protocol import Probability

_REASONS = {"limit": "length", "context": "length"}


class Shape(ABC):
    """Where an answer has its text."""

    @abstractmethod
    def __call__(self, text: str, thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]: ...


class ChatShape(Shape):
    """In a message."""

    def __call__(self, text: str, thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = list(calls)
        return {"message": message}


class GenerateShape(Shape):
    """At the top."""

    def __call__(self, text: str, thinking: str = "", calls: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        return {"response": text} | ({"thinking": thinking} if thinking else {})


class OllamaReply(Single):
    """An answer, streamed or as one object."""

    framing = NDJSON

    def __init__(self, shape: Shape, model: str, fields: Fields) -> None:
        super().__init__(model, fields)
        self._shape = shape
        self._began = time.monotonic()

    def object(self) -> dict[str, Any]:
        text, thinking = self.blocks.text(Kind.TEXT), self.blocks.text(Kind.REASONING)
        calls = [_call(block) for block in self.blocks.all if block.kind is Kind.CALL]
        probs = _logprobs([token for block in self.blocks.all for token in block.probs])
        return head(self.model) | self._shape(text, thinking, calls) | probs | self._figures()

    def begin(self) -> bytes:
        return b""

    def step(self, step: Step) -> bytes:
        match step:
            case Grown(block, text, probs) if block.kind is Kind.TEXT:
                return self._line(self._shape(text) | _logprobs(probs))
            case Grown(block, text) if block.kind is Kind.REASONING:
                return self._line(self._shape("", text))
            case Closed(block) if block.kind is Kind.CALL:
                return self._line(self._shape("", calls=[_call(block)]))
            case Opened() | Grown() | Closed():
                return b""
            case _:
                assert_never(step)

    def end(self) -> bytes:
        return self._line(self._shape(""), **self._figures())

    def failure(self, error: ApiError) -> bytes:
        return line(encode(error_shapes.ollama(error, "")[1]))

    def _line(self, content: dict[str, Any], **more: Any) -> bytes:
        return line(encode(head(self.model) | content | {"done": False} | more))

    def _figures(self) -> dict[str, Any]:
        timings = self.timings
        prompt, predicted = _ns(timings.prompt_ms), _ns(timings.predicted_ms)
        return {
            "done": True,
            "done_reason": _REASONS.get(self.reason, "stop"),
            "total_duration": _ns((time.monotonic() - self._began) * 1000),
            "load_duration": _ns(self.load_ms),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": prompt,
            "eval_count": timings.predicted_n,
            "eval_duration": predicted,
        }


def _logprobs(probs: Sequence[Probability]) -> dict[str, Any]:
    return {"logprobs": logprobs.content(probs, after=False)} if probs else {}


def head(model: str) -> dict[str, Any]:
    """What every object begins with."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    return {"model": shown(model), "created_at": now.replace("+00:00", "Z")}


def loaded(model: str, shape: Shape, reason: str) -> dict[str, Any]:
    """The answer to a request that only loads ("load") or unloads ("unload")."""
    return head(model) | shape("") | {"done": True, "done_reason": reason}


def _call(block: Block) -> dict[str, Any]:
    return {"function": {"name": block.name, "arguments": partial_json.parse(block.text)}}


def _ns(ms: float) -> int:
    return round(ms * 1e6)
