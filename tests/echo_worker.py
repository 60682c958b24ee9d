"""A worker without llama.cpp, on the real worker's host: its replies can be computed, its faults ordered.

A prompt token is one UTF-8 byte, a chat is rendered as `role: content` lines. The reply echoes the words of the last
user message (or of a text prompt), one word a token, joined by single spaces: once, or cycled up to `max_tokens`.
`expected` is the oracle.

Vectors are echoed too: a text's has WIDTH numbers, see `vector`; a document's score is the part of the query's words
that it has. Both come at once, whatever the rate; options stand at the beginning of the first text, or of the query.

The model's `file` sets defaults, `"rate=200,load=0.5"`; a JSON object `{"echo": {…}}` at the beginning of the prompt
overrides them for one request and is not echoed:

    rate     tokens a second of each stream; 0 = as fast as the proxy takes them (default)
    tick     seconds between two steps: what is due by then goes out in one frame, as an engine's step does; 0 = at
             once, each token by itself     only in `file`
    prefill  seconds before the first token (0)
    fault    what happens when `at` tokens (0) were sent: "exit:CODE", "SIGKILL", "SIGSEGV", "hang" (a Python loop),
             "hang_c" (in C with the GIL held), "asleep", "spins" (in C without it), "hog" (memory, all there is),
             "garbage:KIND" (a frame that no proxy takes: see LIES); or what begins then, while the stream goes on, for
             some seconds: "flood:SECONDS" (bytes on fd 2, as fast as they go), "chatter:SECONDS" (the same through the
             log)
    keep     true: words keep the white space before them, line breaks included
    raw      text of a chat template: what follows is emitted character by character and split by that family
    template the chat template that the model says it has     only in `file`
    load     seconds a load takes (0)                       only in `file`
    fail     "permanent", "temporary" or "out_of_memory": the load fails     only in `file`
    hold     a path: while there is a file, the stream stands still after `at` tokens, before its fault
    gate     a path, $VARIABLES in it: while there is a file, the load goes on     only in `file`
    hurdle   a path: while there is a file, the load removes it and fails for want of memory     only in `file`
    crash    a fault as above, while loading                only in `file`
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import logging
import os
import queue
import re
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.boot import Child
from supervisor.config import LLAMA_DEFAULTS
from supervisor.control import Facts, Phase
from worker import links, process
from worker.failure import LoadError, RequestError
from worker.protocol import (
    VERSION,
    Chat,
    Delta,
    Details,
    Embed,
    Event,
    Failed,
    Finished,
    Generate,
    Hello,
    Infill,
    Rerank,
    Started,
    Text,
    Timings,
    Tokenize,
    Tokens,
    Vector,
    encode,
)
from worker.seams import Conclude, Crowd, Drop, Inbox, Job, Leave, Load, Order, Outbox, Passages, Progress, Vitals, Wear
from worker.text import TextStream

if TYPE_CHECKING:
    from worker.chat.machine import Machine
    from worker.chat.split import Split
    from worker.guide import Guide

_SPACED = re.compile(r"\s*\S+|\s+$")
WIDTH = 8  # numbers in a vector
_PACE = 0.0005  # seconds an engine that outruns its proxy waits before it looks again
_LOOK = 0.02  # seconds between two looks for a file that holds something up


class Options(msgspec.Struct, frozen=True):
    """See the module's docstring."""

    rate: float = 0.0
    tick: float = 0.0
    prefill: float = 0.0
    fault: str = ""
    at: int = 0
    keep: bool = False
    raw: str = ""
    template: str = "{{ messages }}"
    hold: str = ""
    load: float = 0.0
    gate: str = ""
    fail: str = ""
    hurdle: str = ""
    crash: str = ""


class Garbage(msgspec.Struct, frozen=True, array_like=True, tag=99):
    """An event outside the protocol."""

    id: int


class Raw(msgspec.Struct, frozen=True):
    """Bytes that stand where an event's frame would."""

    id: int
    data: bytes


LIES: dict[str, Callable[[int], bytes]] = {
    "unknown": lambda id: encode([Garbage(id)]),  # type: ignore[list-item]
    "noise": lambda id: struct.pack("!i", 100) + os.urandom(100),
    "oversize": lambda id: struct.pack("!i", 2**30) + b"x",
    "negative": lambda id: struct.pack("!i", -1),
    "half": lambda id: encode([Delta(id, "half", 1)])[:-3],  # the next frame's bytes are taken for its end
    "old": lambda id: encode([Hello(VERSION, 0)]),  # as if it began once more, as another generation
}


def main(child: Child) -> int:
    """The process. Returns its exit code."""
    links._frames = _frames_and_lies
    return process.run(child, Echo())


def _frames_and_lies(events: list[Any], honest: Callable[[list[Any]], bytes] = links._frames) -> bytes:
    if not any(isinstance(event, Raw) for event in events):
        return honest(events)
    return b"".join(event.data if isinstance(event, Raw) else honest([event]) for event in events)


def expected(text: str, max_tokens: int = -1, stop: Sequence[str] = ()) -> list[str]:
    """The pieces of text that a reply to this user message has; joined, they are the whole text."""
    stream = TextStream(stop)
    pieces = []
    for word in _words(split(text, Options())[1], max_tokens):
        pieces.append(stream.feed(word.encode()))
        if stream.stop_word:
            break
    pieces.append(stream.finish())
    return [piece for piece in pieces if piece]


def split(text: str, defaults: Options) -> tuple[Options, str]:
    """The options of a request, and what is echoed."""
    if not text.lstrip().startswith('{"echo"'):
        return defaults, text
    found, end = json.JSONDecoder().raw_decode(text.lstrip())
    return msgspec.structs.replace(defaults, **found["echo"]), text.lstrip()[end:]


def _words(text: str, max_tokens: int) -> Iterator[str]:
    words = text.split() or ["nothing"]
    source = iter(words) if max_tokens < 0 else itertools.islice(itertools.cycle(words), max_tokens)
    return (word if index == 0 else f" {word}" for index, word in enumerate(source))


def _spaced(text: str, limit: int) -> Iterator[str]:
    words = _SPACED.findall(text)
    return iter(words) if limit < 0 else itertools.cycle(words)


def user_text(prompt: Chat | Text | Infill) -> str:
    """What a prompt asks to be echoed; of a hole, what stands around it."""
    if isinstance(prompt, Infill):
        return f"{prompt.prefix} {prompt.suffix}"
    if isinstance(prompt, Text):
        parts = (bytes([piece]) if isinstance(piece, int) else piece.encode() for piece in prompt.pieces)
        return b"".join(parts).decode("utf-8", "replace")
    contents = [message.get("content") for message in prompt.messages if message.get("role") == "user"]
    return _plain(contents[-1]) if contents else ""


def vector(tokens: Sequence[int]) -> list[float]:
    """How many of a text's bytes leave each remainder, divided by WIDTH."""
    return [float(sum(token % WIDTH == part for token in tokens)) for part in range(WIDTH)]


def score(query: str, document: str) -> float:
    """The part of the query's words that the document has."""
    words = query.split()
    return sum(word in document.split() for word in words) / max(1, len(words))


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


class Echo:
    """See worker.seams.Kind."""

    def prepare(self) -> None:
        pass

    def load(self, order: Load, progress: Progress) -> EchoModel:
        options = _options(order.model.file)
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < options.load or _stands(options.gate):
            if not progress(min(0.99, elapsed / (options.load or 1.0))):
                raise LoadError("load_error", "cancelled", permanent=False)
            time.sleep(_LOOK)
        if options.crash:
            fail(options.crash)
        if options.fail == "out_of_memory" or (options.hurdle and os.path.exists(options.hurdle)):
            if options.hurdle:
                os.unlink(options.hurdle)
            raise LoadError("out_of_memory", "told to find no memory", permanent=False)
        if options.fail:
            raise LoadError("load_error", f"told to fail: {options.fail}", permanent=options.fail == "permanent")
        return EchoModel(order, options)


def _options(text: str) -> Options:
    pairs = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
    return msgspec.convert(pairs, Options, strict=False)


def _stands(path: str) -> bool:
    """Whether a file holds something up."""
    return bool(path) and os.path.exists(os.path.expandvars(path))


def fail(fault: str) -> None:
    """Performs a fault; returns only from those that are not ours."""
    kind, _, code = fault.partition(":")
    if kind == "exit":
        os._exit(int(code))
    if kind.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[kind])
    if kind == "hang":
        while True:
            pass
    if kind == "hang_c":
        ctypes.PyDLL(None).sleep(3600)
    if kind == "asleep":
        ctypes.CDLL(None).sleep(3600)
    if kind == "spins":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes
    if kind == "hog":
        taken = []
        while True:
            taken.append(b"\1" * 2**24)
    if kind in ("flood", "chatter"):
        noise = _flood if kind == "flood" else _chatter
        threading.Thread(target=noise, args=(time.monotonic() + float(code),), daemon=True).start()


def _flood(until: float) -> None:
    block = b"native noise, a line of it; " * 2048 + b"\n"
    while time.monotonic() < until:
        os.write(2, block)


def _chatter(until: float) -> None:
    count = 0
    while time.monotonic() < until:
        logging.getLogger("echo").info("chatter %d", count := count + 1)
    logging.getLogger("echo").info("chatter ends")


class EchoText:
    """See worker.seams.TextSide: a token is a byte."""

    def __init__(self, n_ctx: int) -> None:
        self._n_ctx = n_ctx

    def check(self, request: Generate) -> None:
        pass

    def prompt(self, prompt: Chat | Text | Infill) -> list[int]:
        tokens = self.tokens(prompt)
        if len(tokens) >= self._n_ctx:
            reason = f"the request ({len(tokens)} tokens) exceeds the available context size ({self._n_ctx} tokens)"
            raise RequestError("context_length_exceeded", reason, n_prompt_tokens=len(tokens), n_ctx=self._n_ctx)
        return tokens

    def tokens(self, prompt: Chat | Text | Infill) -> list[int]:
        return list((self.render(prompt) if isinstance(prompt, Chat) else user_text(prompt)).encode())

    def inputs(self, request: Embed | Rerank) -> list[list[int]]:
        if isinstance(request, Rerank):
            return [list(f"{request.query}\n{document}".encode()) for document in request.documents]
        return [self.prompt(Text(pieces)) for pieces in request.inputs]

    def machine(self, request: Generate, prompt: Sequence[int]) -> Machine | None:
        raw = split(user_text(request.prompt), Options())[0].raw
        if not raw:
            return None
        from worker.chat.parser import Parser

        return Parser(raw, lambda _: {}).machine(request, lambda: raw)

    def guides(self, request: Generate, prompt: Sequence[int], machines: Sequence[Machine | None]) -> Sequence[Guide]:
        return ()

    def render(self, chat: Chat) -> str:
        for message in chat.messages:
            if message.get("role") == "unsupported":
                raise RequestError("template_error", "this template knows no such role")
        return "".join(f"{message.get('role')}: {_plain(message.get('content'))}\n" for message in chat.messages)

    def tokenize(self, request: Tokenize) -> Tokens:
        tokens = list(user_text(Text(request.pieces)).encode())
        return Tokens(request.id, tokens, [bytes([token]) for token in tokens] if request.with_pieces else None)

    def detokenize(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode("utf-8", "replace")


@dataclass(slots=True)
class Stream:
    """A request that is being answered."""

    job: Job
    options: Options
    words: Iterator[str]
    text: TextStream
    limit: int
    due: float
    began: float
    kept: list[str]
    split: Split | None = None
    sent: int = 0


class EchoModel:
    """See worker.seams.Loaded; its engine needs no model."""

    def __init__(self, order: Load, options: Options) -> None:
        n_ctx = order.model.n_ctx or 4096
        self.facts = Facts(
            architecture="echo", description="echo", n_ctx=n_ctx, n_ctx_train=n_ctx, n_vocab=256,
            slots=order.model.parallel, sampling=order.model.sampling, chat_template=options.template,
            template_caps={"supports_system_role": True}, load_ms=options.load * 1000,
        )  # fmt: skip
        self.text = EchoText(n_ctx)
        self.costs = {1: 0.001}
        self._options = options
        self._parallel = order.model.parallel
        self._defaults = order.model.sampling
        self._waiting: deque[Job] = deque()
        self._streams: list[Stream] = []
        self._leave_at = float("inf")

    def run(self, inbox: Inbox, outbox: Outbox, vitals: Vitals) -> None:
        self._outbox, self._vitals = outbox, vitals
        while self._leave_at == float("inf") or self._streams or self._waiting:
            self._receive(inbox)
            self._step()
            self._report()

    def _receive(self, inbox: Inbox) -> None:
        """Takes all orders; waits until the next token is due."""
        timeout = None if not self._waiting else 0.0
        if self._streams:
            timeout = min(self._leave_at, *(stream.due for stream in self._streams)) - time.monotonic()
            if self._options.tick:
                timeout = self._options.tick - time.monotonic() % self._options.tick
            if timeout <= 0 and any(self._outbox.backlog(stream.job.key[0]) for stream in self._streams[:1]):
                timeout = _PACE
        try:
            order = inbox.get(timeout is None or timeout > 0, timeout)
            while True:
                self._obey(order)
                order = inbox.get_nowait()
        except queue.Empty:
            pass

    def _obey(self, order: Order) -> None:
        match order:
            case Job():
                for index, key in enumerate(order.keys):
                    self._waiting.append(Job(key, order.request, order.prompt, order.machines[index : index + 1]))
            case Passages():
                self._echo(order)
            case Drop(key):
                self._waiting = deque(job for job in self._waiting if job.key != key)
                self._streams = [stream for stream in self._streams if stream.job.key != key]
            case Leave(at):
                self._leave_at = at
            case Conclude() | Crowd() | Load() | Wear():
                pass

    def _echo(self, passages: Passages) -> None:
        """Answers a request for vectors."""
        (link, id), request = passages.key, passages.request
        text = request.query if isinstance(request, Rerank) else user_text(Text(request.inputs[0]))
        options, query = split(text, self._options)
        self._outbox.put(link, [Started(id, 0)])
        if options.fault:
            fail(options.fault)
        if isinstance(request, Rerank):
            found = [[score(query, document)] for document in request.documents]
        else:
            found = [vector(tokens) for tokens in passages.inputs]
        events: list[Event] = [
            Vector(id, at, len(numbers), struct.pack(f"<{len(numbers)}f", *numbers)) for at, numbers in enumerate(found)
        ]
        tokens = sum(map(len, passages.inputs))
        self._outbox.put(link, [*events, Finished(id, "done", "", Timings(prompt_n=tokens))])

    def _step(self) -> None:
        events: dict[int, list[Event]] = {}
        while self._waiting and len(self._streams) < self._parallel:
            self._begin(self._waiting.popleft(), events)
        now = time.monotonic()
        if now >= self._leave_at:
            for job in [stream.job for stream in self._streams] + list(self._waiting):
                failed = Failed(job.key[1], "model_unloaded", "the model is being unloaded")
                events.setdefault(job.key[0], []).append(failed)
            self._streams.clear()
            self._waiting.clear()
        for stream in self._streams:
            if stream.due <= now:
                self._advance(stream, now, events.setdefault(stream.job.key[0], []))
        self._streams = [stream for stream in self._streams if stream.due < float("inf")]
        for link, batch in events.items():
            self._outbox.put(link, batch)

    def _begin(self, job: Job, events: dict[int, list[Event]]) -> None:
        options, text = split(user_text(job.request.prompt), self._options)
        limit = job.request.sampling.over(self._defaults).max_tokens
        limit = -1 if limit is None else limit
        now = time.monotonic()
        words = _words(text, limit)
        if options.raw or options.keep:
            words = itertools.islice(text if options.raw else _spaced(text, limit), None if limit < 0 else limit)
        parts = None
        if job.machines:
            from worker.chat.split import Split

            parts = Split(job.machines[0], job.request.stop)
        stop = job.request.stop if parts is None else ()
        stream = Stream(job, options, words, TextStream(stop), limit, now + options.prefill, now, [], parts)
        self._streams.append(stream)
        events.setdefault(job.key[0], []).append(Started(job.key[1], 0, self._streams.index(stream)))

    def _advance(self, stream: Stream, now: float, events: list[Event]) -> None:
        """The stream's next token, or its end."""
        id = stream.job.key[1]
        if stream.sent == stream.options.at and _stands(stream.options.hold):
            stream.due = now + _LOOK
            return
        if stream.options.fault and stream.sent == stream.options.at:
            if stream.options.fault.startswith("garbage:"):
                lie = LIES[stream.options.fault.partition(":")[2]]
                self._outbox.put(stream.job.key[0], [Raw(id, lie(id))])  # type: ignore[list-item]
            fail(stream.options.fault)
        word = next(stream.words, None)
        if word is None:
            self._end(stream, "eos" if stream.limit < 0 else "limit", now, events)
            return
        stream.sent += 1
        text = stream.text.feed(word.encode())
        if stream.split is not None:
            self._divide(stream, stream.split, text, now, events)
            return
        if text and stream.job.request.stream:
            events.append(Delta(id, text, 1))
        else:
            stream.kept.append(text)
        if stream.text.stop_word:
            self._end(stream, "word", now, events)
        else:
            stream.due = max(stream.due, now - 1.0) + 1 / stream.options.rate if stream.options.rate else now

    def _divide(self, stream: Stream, parts: Split, text: str, now: float, events: list[Event]) -> None:
        """The stream's next text, through its machine."""
        if parts.feed(text) and stream.job.request.stream:
            events += parts.events(stream.job.key[1], 1)
        if parts.stop_word or parts.done:
            self._end(stream, "word" if parts.stop_word else "eos", now, events)
        else:
            stream.due = now

    def _end(self, stream: Stream, reason: str, now: float, events: list[Event]) -> None:
        id = stream.job.key[1]
        if rest := "".join([*stream.kept, stream.text.finish()]):
            events.append(Delta(id, rest, len(stream.kept)))
        stop_word = stream.text.stop_word
        if stream.split is not None:
            stream.split.finish(complete=reason == "eos")
            events += stream.split.events(id, 0)
            stop_word = stream.split.stop_word
        prompt, predicted = stream.options.prefill * 1000, (now - stream.began - stream.options.prefill) * 1000
        timings = Timings(0, len(stream.job.prompt), prompt, stream.sent, predicted)
        request = stream.job.request
        sampling = request.sampling.over(self._defaults.over(LLAMA_DEFAULTS))
        details = Details(sampling, len(stream.job.prompt) + stream.sent, False) if request.details else None
        events.append(Finished(id, "word" if stop_word else reason, stop_word, timings, details))
        stream.due = float("inf")

    def _report(self) -> None:
        vitals = self._vitals
        vitals.active, vitals.queued = len(self._streams), len(self._waiting)
        busy = [stream for stream in self._streams if stream.sent or not stream.options.prefill]
        vitals.phase = Phase.IDLE if not self._streams else Phase.DECODE if busy else Phase.PREFILL
        vitals.expected = 0.0 if busy else max((stream.options.prefill for stream in self._streams), default=0.0)
        vitals.steps += 1
