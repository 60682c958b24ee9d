"""POST /v1/completions. API.md, 4.1 to 4.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.dialects import logprobs, native_object, results
from proxy.dialects.constraint import constraint
from proxy.dialects.fields import Fields, bad, typed
from proxy.dialects.lazy_grammar import triggered
from proxy.dialects.logprobs import CompletionLogprobs
from proxy.dialects.reply import Plan, Reply, chunk, encode
from proxy.errors import BadRequest, Unsupported
from proxy.sse import record
from supervisor.schema import Path
from worker.protocol import Generate, Infill, Probability, Progress, Text

MAX_PROMPTS = 64  # in one request; each waits for a slot of its own
Pieces = tuple[str | int, ...]


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What this route takes beside the generation fields. `suffix`: what the completion is to lead up to."""

    prompt: Any = None
    echo: bool = False
    suffix: str = ""


def parse(body: dict[str, Any], request_id: str) -> Plan:
    """The body of a completion request. Raises BadRequest, Unsupported."""
    fields, completion = typed(body, Fields), typed(body, Completion)
    n_probs = typed(body, CompletionLogprobs).count(fields)
    if completion.echo and n_probs >= 0:
        raise Unsupported("logprobs of the prompt", "echo")
    grammar, schema = constraint(body, fields)
    lazy = triggered(body, grammar)
    found = prompts(completion.prompt)
    asks = [
        Generate(
            id=0,
            request_id=request_id,
            prompt=_prompt(pieces, completion.suffix, fields),
            sampling=fields.sampling,
            stop=fields.stops,
            stream=fields.stream,
            cache_prompt=fields.cache_prompt,
            return_progress=fields.return_progress and fields.stream,
            t_max_predict_ms=fields.t_max_predict_ms,
            n_indent=fields.n_indent,
            n_probs=n_probs,
            post_sampling_probs=fields.post_sampling_probs,
            siblings=fields.siblings,
            grammar=grammar,
            json_schema=schema,
            grammar_triggers=lazy.triggers,
            preserved_tokens=lazy.preserved,
            lora=fields.adapters,
        )
        for pieces in found
    ]
    openings = [_opening(pieces) if completion.echo else "" for pieces in found]
    each = 1 + len(fields.siblings)
    return Plan(fields, asks, [opening for opening in openings for _ in range(each)], CompletionReply)


def prompts(prompt: Any) -> list[Pieces]:
    """One prompt (a string, tokens, or both mixed) or a list of such prompts. Raises BadRequest, Unsupported."""
    if prompt is None:
        raise BadRequest("prompt: required (string or list)", "prompt", "missing_field")
    if not isinstance(prompt, list):
        return [pieces(prompt, ("prompt",))]
    if not prompt:
        raise bad(("prompt",), "at least one string or token", prompt)
    several = any(isinstance(item, list | dict) for item in prompt) or all(isinstance(item, str) for item in prompt)
    if not several:
        return [pieces(prompt, ("prompt",))]
    if len(prompt) > MAX_PROMPTS:
        raise BadRequest(f"prompt: at most {MAX_PROMPTS} prompts in one request, got {len(prompt)}", "prompt")
    return [pieces(item, ("prompt", index)) for index, item in enumerate(prompt)]


def pieces(value: Any, path: Path) -> Pieces:
    """Text, token ids, or both mixed. Raises BadRequest, Unsupported."""
    if isinstance(value, dict):
        if value.get("multimodal_data"):
            raise Unsupported("multimodal prompt", path[0] if isinstance(path[0], str) else None)
        value, path = value.get("prompt_string"), (*path, "prompt_string")
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise bad(path, "string, or list of strings and token ids", value)
    for index, item in enumerate(value):
        if type(item) is not str and not (type(item) is int and 0 <= item < 2**31):
            raise bad((*path, index), "string or token id ≥ 0", item)
    return tuple(value)


class CompletionReply(Reply):
    """A text completion, streamed or as one object; choices in the order of the prompts."""

    def new_head(self, model: str, created: int) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": results.new_id("cmpl-"),
            "object": "text_completion",
            "created": created,
            "model": model,
            "system_fingerprint": results.FINGERPRINT,
        }
        self._front = record(encode(head))[:-3] + b',"choices":[{"text":'  # less than "}\n\n"
        return head

    def first(self, index: int) -> bytes:
        return b""

    def text(self, index: int, text: str, extra: bytes, probs: Sequence[Probability] = ()) -> bytes:
        found = encode(self._logprobs(index, probs)) if probs else b"null"
        middle = b'%b,"index":%d,"logprobs":%b,"finish_reason":null}]%b}\n\n' % (encode(text), index, found, extra)
        return self._front + middle

    def _logprobs(self, index: int, probs: Sequence[Probability]) -> dict[str, Any]:
        return logprobs.completion(probs, self.choices[index].offsets, after=self.fields.post_sampling_probs)

    def progress(self, index: int, event: Progress) -> bytes:
        return chunk(self.head, choices=[self._choice(index, "")], prompt_progress=results.prompt_progress(event))

    def last(self, index: int) -> bytes:
        ends = {"usage": self.usage(), "timings": self.timings()} if self.done else {}
        figures = ends | native_object.beside(self) if ends else {}
        return chunk(self.head, choices=[self._choice(index, "")], **figures)

    def object(self) -> dict[str, Any]:
        choices = [self._choice(index, self.full_text(index)) for index in range(len(self.choices))]
        if self.asks_probs:
            for index, choice in enumerate(self.choices):
                choices[index]["logprobs"] = self._logprobs(index, choice.probs)
        figures = {"usage": self.usage(), "timings": self.timings()}
        return self.head | {"choices": choices} | figures | native_object.beside(self)

    def _choice(self, index: int, text: str) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": self.finish_reason(index)}


def _prompt(found: Pieces, suffix: str, fields: Fields) -> Text | Infill:
    """With a suffix the prompt is what stands before a hole."""
    if not suffix:
        return Text(found)
    if not all(isinstance(piece, str) for piece in found):
        raise BadRequest("prompt: expected text where there is a suffix, got token ids", "prompt")
    room = fields.sampling.max_tokens
    return Infill("".join(map(str, found)), suffix, room=-1 if room is None else room)


def _opening(prompt: Pieces) -> str:
    if not all(isinstance(piece, str) for piece in prompt):
        raise Unsupported("echo of token ids", "echo")
    return "".join(str(piece) for piece in prompt)
