"""From the events of a call to one answer of the OpenAI family: a stream of records, or one object.

Both are made from the same Tally, so a streamed answer put together is the unstreamed one.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec import structs

from proxy.dialects import results
from proxy.dialects.answer import Answer, Indexed
from proxy.dialects.fields import Fields
from proxy.dialects.logprobs import Offsets
from proxy.dialects.results import Counts
from proxy.sse import DONE, record
from worker.protocol import (
    Accepted,
    CallDelta,
    CallStart,
    Delta,
    Event,
    Finished,
    Generate,
    Probability,
    Progress,
    Reasoning,
    Started,
    Timings,
)

Part = Reasoning | CallStart | CallDelta  # what of a reply is no content
encode = msgspec.json.Encoder().encode


@dataclass
class ToolCall:
    """A call of a tool; its arguments are kept only for an answer as one object."""

    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass
class Choice:
    """What is known of one choice; `opening` is text that goes before what the model says. Times are monotonic."""

    opening: str = ""
    prompt: str = ""
    prompt_tokens: int = 0
    slot: int = -1
    cached: int = 0
    tokens: int = 0
    started_at: float = 0.0
    first_at: float | None = None
    finished: Finished | None = None
    texts: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)  # of tokens not shown yet, if asked for
    probs: list[Probability] = field(default_factory=list)
    offsets: Offsets = field(default_factory=Offsets)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    @property
    def timings(self) -> Timings:
        """The worker's figures; until they come, what this side has seen."""
        if self.finished is not None:
            return self.finished.timings
        now = time.monotonic()
        first = self.first_at or now
        return Timings(
            cache_n=self.cached,
            prompt_n=self.prompt_tokens - self.cached,
            prompt_ms=(first - self.started_at) * 1000,
            predicted_n=self.tokens,
            predicted_ms=(now - first) * 1000,
        )


class Reply(Answer):
    """One answer with one choice per request of the call. Children give the shapes."""

    def __init__(self, model: str, fields: Fields, openings: list[str], created: int | None = None) -> None:
        self.model, self.fields = model, fields
        self.choices = [Choice(opening) for opening in openings]
        self.head = self.new_head(model, int(time.time()) if created is None else created)

    # -- the shapes ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def new_head(self, model: str, created: int) -> dict[str, Any]:
        """The fields that every record of the answer begins with."""

    @abstractmethod
    def first(self, index: int) -> bytes:
        """Records before the first text of a choice."""

    @abstractmethod
    def text(self, index: int, text: str, extra: bytes, probs: Sequence[Probability] = ()) -> bytes:
        """The record of some text, and of tokens if asked for; `extra` goes beside its choices."""

    @abstractmethod
    def last(self, index: int) -> bytes:
        """The record that ends a choice."""

    def part(self, index: int, event: Part, extra: bytes) -> bytes:
        """The record of reasoning or of a call, where the dialect has them; `extra` as for text."""
        return b""

    def progress(self, index: int, event: Progress) -> bytes:
        """The record of progress with the prompt, where the dialect has one."""
        return b""

    def end(self) -> bytes:
        """What follows the last choice."""
        return DONE

    # -- what all of them do ------------------------------------------------------------------------------------------

    def records(self, events: Indexed) -> bytes:
        """The records of a batch; texts of one choice that follow each other become one."""
        parts: list[bytes] = []
        pending, whose, heard = "", -1, False
        probs: list[Probability] = []
        for index, event in events:
            if heard and (whose != index or not isinstance(event, Delta)):
                parts.append(self._text(whose, pending, probs))
                pending, probs, heard = "", [], False
            if isinstance(event, Delta):
                if self._count(index, event):
                    parts.append(self.first(index))
                    pending = self.choices[index].opening
                pending, whose = pending + event.text, index
                probs += event.probs or ()
                heard = heard or bool(pending or probs or event.ids)
            else:
                parts.append(self._other(index, event))
        if heard:
            parts.append(self._text(whose, pending, probs))
        return b"".join(parts)

    def collect(self, events: Indexed) -> None:
        """Takes a batch for the answer as one object."""
        for index, event in events:
            if isinstance(event, Delta):
                self._count(index, event)
                self.choices[index].texts.append(event.text)
                self.choices[index].probs += event.probs or ()
            elif isinstance(event, Part):
                self._count(index, event)
                self._keep(self.choices[index], event)
            else:
                self._note(index, event)

    def full_text(self, index: int) -> str:
        return self.choices[index].opening + "".join(self.choices[index].texts)

    @property
    def done(self) -> bool:
        return all(choice.finished for choice in self.choices)

    def finish_reason(self, index: int) -> str | None:
        choice = self.choices[index]
        return results.finish_reason(choice.finished.reason, called=bool(choice.calls)) if choice.finished else None

    def usage(self) -> dict[str, Any]:
        completion = sum(choice.timings.predicted_n for choice in self.choices)
        prompt = sum(choice.prompt_tokens for choice in self.choices)
        reasoning = sum(choice.finished.reasoning_tokens for choice in self.choices if choice.finished)
        return results.usage(prompt, completion, sum(choice.cached for choice in self.choices), reasoning)

    def timings(self) -> dict[str, Any]:
        return results.timings(results.summed([choice.timings for choice in self.choices]))

    @property
    def completion_id(self) -> str:
        """The id that the answer carries; "" if it has none."""
        return str(self.head.get("id", ""))

    @property
    def counts(self) -> Counts:
        """Tokens of all choices so far."""
        prompt = sum(choice.prompt_tokens for choice in self.choices)
        cached = sum(choice.cached for choice in self.choices)
        return Counts(prompt, cached, sum(choice.timings.predicted_n for choice in self.choices))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _text(self, index: int, text: str, probs: Sequence[Probability] = ()) -> bytes:
        return self.text(index, text, self._extra(), probs)

    def _extra(self) -> bytes:
        return b',"timings":' + encode(self.timings()) if self.fields.timings_per_token else b""

    def _part(self, index: int, event: Part) -> bytes:
        front = self.first(index) + self._opening(index) if self._count(index, event) else b""
        if isinstance(event, CallStart):
            self.choices[index].calls.append(ToolCall(event.call_id, event.name))
        return front + self.part(index, event, self._extra())

    @staticmethod
    def _keep(choice: Choice, event: Part) -> None:
        match event:
            case Reasoning():
                choice.reasoning.append(event.text)
            case CallStart():
                choice.calls.append(ToolCall(event.call_id, event.name))
            case CallDelta():
                choice.calls[event.index].arguments.append(event.text)

    def _count(self, index: int, event: Delta | Part) -> bool:
        """Counts a delta's tokens; whether it is the first of its choice."""
        choice = self.choices[index]
        choice.tokens += event.tokens
        if isinstance(event, Delta) and event.ids:
            choice.ids += event.ids
        if choice.first_at is not None:
            return False
        choice.first_at = time.monotonic()
        return True

    def _note(self, index: int, event: Event) -> None:
        choice = self.choices[index]
        match event:
            case Accepted():
                choice.prompt_tokens, choice.prompt = event.prompt_tokens, event.prompt
            case Started():
                choice.cached, choice.slot, choice.started_at = event.cached, event.slot, time.monotonic()
            case Finished():
                choice.finished = event
                choice.cached = event.timings.cache_n
            case _:
                pass

    def _other(self, index: int, event: Event) -> bytes:
        if isinstance(event, Part):
            return self._part(index, event)
        self._note(index, event)
        if isinstance(event, Progress):
            return self.progress(index, event)
        if not isinstance(event, Finished):
            return b""
        parts = [self.last(index), self.end() if self.done else b""]
        if self.choices[index].first_at is None:  # not one token: the shape is the same
            self.choices[index].first_at = time.monotonic()
            parts.insert(0, self.first(index) + self._opening(index))
        return b"".join(parts)

    def _opening(self, index: int) -> bytes:
        opening = self.choices[index].opening
        return self._text(index, opening) if opening else b""


@dataclass(frozen=True)
class Plan:
    """A request, parsed: what goes to the worker, and how the answer is made.

    `truncates`: old messages may be left out where the context is too small.
    """

    fields: Fields
    asks: list[Generate]
    openings: list[str]
    kind: Callable[[str, Fields, list[str]], Answer]
    truncates: bool = False
    verbose: bool = False

    def explained(self) -> Plan:
        """The same, with the native objects beside the answer."""
        told = [structs.replace(ask, details=True, return_tokens=not ask.stream) for ask in self.asks]
        return replace(self, asks=told, verbose=True)

    def reply(self, model: str) -> Answer:
        """`model` is the name of the one that serves it."""
        reply = self.kind(model, self.fields, self.openings)
        reply.verbose = self.verbose
        reply.asks_probs = self.asks[0].n_probs >= 0
        return reply


def chunk(head: dict[str, Any], **rest: Any) -> bytes:
    """One record of a stream."""
    return record(encode(head | rest))
