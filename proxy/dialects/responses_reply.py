"""The answer to a Responses request: typed events with numbers and indices, or one object. API.md, 4.4."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, assert_never

from proxy.dialects import logprobs, results
from proxy.dialects.blocks import Block, Closed, Grown, Kind, Opened, Step
from proxy.dialects.fields import Fields
from proxy.dialects.reply import encode
from proxy.dialects.single import Single
from proxy.errors import ApiError
from proxy.sse import event
from worker.protocol import Probability, Progress

_PREFIXES = {Kind.TEXT: "msg_", Kind.REASONING: "rs_", Kind.CALL: "fc_"}
_TEXTS = {
    Kind.TEXT: ("output_text", "text"),
    Kind.REASONING: ("reasoning_text", "text"),
    Kind.CALL: ("function_call_arguments", "arguments"),
}


class ResponseReply(Single):
    """A response, streamed or as one object. `echo`: what of the request it repeats."""

    def __init__(self, echo: dict[str, Any], model: str, fields: Fields) -> None:
        super().__init__(model, fields)
        self.id = results.new_id("resp_")
        self._echo = echo
        self._created = int(time.time())
        self._ids: dict[int, str] = {}
        self._number = 0

    def object(self) -> dict[str, Any]:
        return self._response([self._item(block) for block in self.blocks.all])

    # -- the stream ---------------------------------------------------------------------------------------------------

    def begin(self) -> bytes:
        parts = [self._event(f"response.{name}", response=self._response([])) for name in ("created", "in_progress")]
        return b"".join(parts)

    def progress(self, event: Progress) -> bytes:
        response, progress = self._response([]), results.prompt_progress(event)
        return self._event("response.in_progress", response=response, prompt_progress=progress)

    def step(self, step: Step) -> bytes:
        block = step.block
        match step:
            case Opened():
                item = self._item(Block(block.index, block.kind, block.id, block.name)) | {"status": "in_progress"}
                if block.kind is not Kind.CALL:
                    item["content"] = []
                added = self._event("response.output_item.added", output_index=block.index, item=item)
                return added + (self._content_part("added", block, "") if block.kind is Kind.TEXT else b"")
            case Grown(_, text, probs):
                found = {"logprobs": self._logprobs(probs)} if block.kind is Kind.TEXT else {}
                return self._of_text(block, "delta", delta=text, **found)
            case Closed():
                return self._closed(block)
            case _:
                assert_never(step)

    def end(self) -> bytes:
        response = self.object()
        timings = results.timings(self.timings)
        return self._event(f"response.{response['status']}", response=response, timings=timings)

    def failure(self, error: ApiError) -> bytes:
        found = {"code": error.code, "message": str(error), "param": error.param}
        return self._event("error", **found, **error.object)

    def _closed(self, block: Block) -> bytes:
        _, name = _TEXTS[block.kind]
        found: dict[str, Any] = {name: block.text}
        if block.kind is Kind.TEXT:
            found["logprobs"] = self._logprobs(block.probs)
        elif block.kind is Kind.CALL:
            found["name"] = block.name
        parts = [self._of_text(block, "done", **found)]  # in this order: each takes a number
        if block.kind is Kind.TEXT:
            parts.append(self._content_part("done", block, block.text, block.probs))
        parts.append(self._event("response.output_item.done", output_index=block.index, item=self._item(block)))
        return b"".join(parts)

    def _of_text(self, block: Block, what: str, /, **data: Any) -> bytes:
        place = {"content_index": 0} if block.kind is not Kind.CALL else {}
        return self._of(f"{_TEXTS[block.kind][0]}.{what}", block, **place, **data)

    def _content_part(self, what: str, block: Block, text: str, probs: Sequence[Probability] = ()) -> bytes:
        return self._of(f"content_part.{what}", block, content_index=0, part=self._part(text, probs))

    def _of(self, name: str, block: Block, /, **data: Any) -> bytes:
        return self._event(f"response.{name}", item_id=self._id(block), output_index=block.index, **data)

    def _event(self, kind: str, /, **data: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return event(kind, encode({"type": kind, "sequence_number": number} | data))

    # -- objects ------------------------------------------------------------------------------------------------------

    def _response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": output,
        }
        if self.finished is not None:
            found |= {"status": "completed", "completed_at": int(time.time()), "usage": self._usage()}
            if self._cut:
                found |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        return found | self._echo

    def _item(self, block: Block) -> dict[str, Any]:
        head = {"id": self._id(block), "status": self._status(block)}
        match block.kind:
            case Kind.TEXT:
                content = [self._part(block.text, block.probs)]
                return head | {"type": "message", "role": "assistant", "content": content}
            case Kind.REASONING:
                content = [{"type": "reasoning_text", "text": block.text}]
                return head | {"type": "reasoning", "summary": [], "content": content}
            case Kind.CALL:
                return head | {
                    "type": "function_call",
                    "call_id": block.id,
                    "name": block.name,
                    "arguments": block.text,
                }
            case _:
                assert_never(block.kind)

    def _part(self, text: str, probs: Sequence[Probability]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self._logprobs(probs)}

    def _status(self, block: Block) -> str:
        return "incomplete" if self._cut and block is self.blocks.all[-1] else "completed"

    @property
    def _cut(self) -> bool:
        return self.finished is not None and self.finished.reason in ("limit", "context")

    def _id(self, block: Block) -> str:
        if block.index not in self._ids:
            self._ids[block.index] = results.new_id(_PREFIXES[block.kind])
        return self._ids[block.index]

    def _logprobs(self, probs: Sequence[Probability]) -> list[dict[str, Any]]:
        return logprobs.content(probs, after=self.fields.post_sampling_probs)

    def _usage(self) -> dict[str, Any]:
        spent = self.timings.predicted_n
        found: dict[str, Any] = {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.timings.cache_n},
            "output_tokens": spent,
            "total_tokens": self.prompt_tokens + spent,
        }
        if not self.blocks.text(Kind.REASONING):  # else only the worker could say how many
            found["output_tokens_details"] = {"reasoning_tokens": 0}
        return found
