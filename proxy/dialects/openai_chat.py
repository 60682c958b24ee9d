"""POST /v1/chat/completions. API.md, 4.2, 4.3, 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.dialects import logprobs, native_object, reasoning, results
from proxy.dialects.chat_messages import Conversation
from proxy.dialects.constraint import constraint
from proxy.dialects.fields import Fields, typed
from proxy.dialects.lazy_grammar import triggered
from proxy.dialects.logprobs import ChatLogprobs
from proxy.dialects.reply import Part, Plan, Reply, chunk, encode
from proxy.dialects.tool_choice import is_named
from proxy.errors import BadRequest
from proxy.sse import DONE, record
from worker.protocol import CallDelta, CallStart, Generate, Probability, Progress, Reasoning

_ROLE = {"role": "assistant", "content": None}


def parse(body: dict[str, Any], request_id: str) -> Plan:
    """The body of a chat request. Raises BadRequest, Unsupported."""
    fields, conversation = typed(body, Fields), typed(body, Conversation)
    n_probs = typed(body, ChatLogprobs).count(fields)
    grammar, schema = constraint(body, fields)
    wanted = conversation.must_call
    chat = conversation.chat()
    if grammar and chat.tools and conversation.tool_choice != "none":
        raise BadRequest("grammar and tools exclude each other", "grammar", "conflicting_fields")
    if schema and wanted:
        text = "a schema for the answer and a tool that must be called exclude each other"
        raise BadRequest(text, "tool_choice", "conflicting_fields")
    thinking = typed(body, reasoning.Reasoning)
    lazy = triggered(body, grammar)
    ask = Generate(
        id=0,
        request_id=request_id,
        prompt=chat,
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
        parse_tools=bool(wanted) or (conversation.parses_tools and not schema),
        parallel_tool_calls=False if is_named(conversation.tool_choice) else conversation.parallel_tool_calls,
        reasoning_format=conversation.reasoning,
        must_call=wanted,
        reasoning_budget=thinking.budget,
        reasoning_message=thinking.reasoning_budget_message,
        reasoning_control=thinking.reasoning_control,
        grammar_triggers=lazy.triggers,
        preserved_tokens=lazy.preserved,
        lora=fields.adapters,
    )
    opening = conversation.opening if chat.continue_final else ""
    return Plan(fields, [ask], [opening] * (1 + len(ask.siblings)), ChatReply)


class ChatReply(Reply):
    """A chat completion, streamed or as one object."""

    def new_head(self, model: str, created: int) -> dict[str, Any]:
        head: dict[str, Any] = {
            "id": results.new_id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": results.FINGERPRINT,
        }
        self._front = record(encode(head))[:-3] + b',"choices":[{"index":'  # less than "}\n\n"
        return head

    def first(self, index: int) -> bytes:
        return chunk(self.head, choices=[_choice(index, _ROLE)])

    def text(self, index: int, text: str, extra: bytes, probs: Sequence[Probability] = ()) -> bytes:
        if probs:
            extra = b',"logprobs":' + encode(self._logprobs(probs)) + b"}]" + extra
        else:
            extra = b"}]" + extra
        return self._front + b'%d,"delta":{"content":%b},"finish_reason":null%b}\n\n' % (index, encode(text), extra)

    def _logprobs(self, probs: Sequence[Probability]) -> dict[str, Any]:
        return {"content": logprobs.content(probs, after=self.fields.post_sampling_probs)}

    def part(self, index: int, event: Part, extra: bytes) -> bytes:
        middle = b'%d,"delta":%b,"finish_reason":null}]%b}\n\n' % (index, encode(_delta(event)), extra)
        return self._front + middle

    def progress(self, index: int, event: Progress) -> bytes:
        choices = [_choice(index, _ROLE)]
        return chunk(self.head, choices=choices, prompt_progress=results.prompt_progress(event))

    def last(self, index: int) -> bytes:
        ends = self.done and not self.fields.stream_options.include_usage
        figures = {"timings": self.timings()} | native_object.beside(self) if ends else {}
        return chunk(self.head, choices=[_choice(index, {}, self.finish_reason(index))], **figures)

    def end(self) -> bytes:
        if not self.fields.stream_options.include_usage:
            return DONE
        figures = {"usage": self.usage(), "timings": self.timings()} | native_object.beside(self)
        return chunk(self.head, choices=[], **figures) + DONE

    def object(self) -> dict[str, Any]:
        choices: list[dict[str, Any]] = [
            {
                "index": index,
                "finish_reason": self.finish_reason(index),
                "message": self._message(index),
            }
            for index in range(len(self.choices))
        ]
        if self.asks_probs:
            for found, choice in zip(choices, self.choices, strict=True):
                found["logprobs"] = self._logprobs(choice.probs)
        head = self.head | {"object": "chat.completion", "choices": choices}
        return head | {"usage": self.usage(), "timings": self.timings()} | native_object.beside(self)

    def _message(self, index: int) -> dict[str, Any]:
        choice = self.choices[index]
        message: dict[str, Any] = {"role": "assistant", "content": self.full_text(index)}
        if choice.reasoning:
            message["reasoning_content"] = "".join(choice.reasoning)
        if choice.calls:
            message["tool_calls"] = [_call(call.id, call.name, "".join(call.arguments)) for call in choice.calls]
        return message


def _delta(event: Part) -> dict[str, Any]:
    match event:
        case Reasoning():
            return {"reasoning_content": event.text}
        case CallStart():
            return {"tool_calls": [{"index": event.index} | _call(event.call_id, event.name, "")]}
        case CallDelta():
            return {"tool_calls": [{"index": event.index, "function": {"arguments": event.text}}]}


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _choice(index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}
