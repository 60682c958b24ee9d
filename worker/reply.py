"""One running request: its sequence, its sampler, and its reply as events. ENGINE.md, 9 and 18."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from worker.limits import LineText
from worker.output import Output, Parsed, Plain
from worker.probabilities import Probabilities
from worker.protocol import (
    Chat,
    Delta,
    Details,
    Event,
    Finished,
    Generate,
    Place,
    Probability,
    Progress,
    Started,
    Timings,
)
from worker.seams import Job
from worker.sequences import Sequence

if TYPE_CHECKING:
    from worker.sampling import Sampler
    from worker.vocabulary import Vocabulary


class Reply:
    """Takes sampled tokens, gives events; `reason` is set when it has ended."""

    __slots__ = (
        "_began", "_cached", "_first", "_guide", "_ids", "_output", "_silent", "_streams", "_text", "_vocabulary",
        "interrupted", "interrupted_at", "job", "limit", "n_out", "probabilities", "prompt_seconds", "reason",
        "sampler", "sequence", "siblings", "stops",
    )  # fmt: skip

    def __init__(
        self, job: Job, sequence: Sequence, cached: int, sampler: Sampler, limit: int, vocabulary: Vocabulary
    ) -> None:
        """`limit` is the most tokens to generate, -1 for as many as the context holds."""
        self.job, self.sequence, self.sampler = job, sequence, sampler
        self.reason = ""
        self.siblings: list[Reply] = []  # choices that wait for this one's prompt
        self.stops: list[int] = []  # lengths at which its state is to be kept, the next one first
        self.interrupted = 0  # times
        self.interrupted_at = 0.0  # when its last token came, monotonic
        self.n_out = 0
        self.prompt_seconds = 0.0
        self._vocabulary = vocabulary
        self._cached = cached
        self.limit = limit
        self._text = _text(job, vocabulary)
        self._output = _output(job, self._text, vocabulary)
        self._guide = job.guides[0] if job.guides else None
        self.probabilities = Probabilities(job.request, vocabulary) if job.request.n_probs >= 0 else None
        # probabilities go out as they come, even to a client that does not stream: they may fill many frames
        self._streams = job.request.stream or self.probabilities is not None
        self._silent = 0  # tokens decoded since the last Delta
        self._ids: list[int] = []  # theirs, if they are asked for
        self._began = time.monotonic()
        self._first = 0.0

    @property
    def decoding(self) -> bool:
        """Whether all but the token sampled last is in the cache."""
        return self.n_out > 0 and self.sequence.missing == 1

    @property
    def chunk(self) -> int:
        """The most rows its next prefill may have."""
        return (self.stops[0] if self.stops else self.sequence.size) - self.sequence.held

    def stop_at(self, length: int) -> None:
        """Its state is wanted at this length, if it is not past it."""
        if length not in self.stops and self.sequence.held < length < self.sequence.size:
            self.stops = sorted([*self.stops, length])

    def started(self) -> Event:
        return Started(self.job.key[1], self._cached, self.sequence.lane)

    def progressed(self, rows: int, seconds: float) -> list[Event]:
        """A step has computed `rows` of the prompt; nothing is said of a text that is computed once more."""
        if self.n_out:
            return []
        self.prompt_seconds += seconds
        if not self.job.request.return_progress:
            return []
        elapsed = (time.monotonic() - self._began) * 1000
        total = len(self.job.prompt)
        return [Progress(self.job.key[1], total, self._cached, min(self.sequence.held, total), elapsed)]

    def place(self) -> Place:
        """See worker.places; called by another thread."""
        prompt, held = len(self.job.prompt), self.sequence.held
        return Place(
            self.sequence.lane if self.sequence.id >= 0 else -1,
            busy=True,
            prompt=prompt,
            processed=max(0, min(held, prompt) - self._cached),
            cached=self._cached,
            decoded=self.n_out,
            remain=max(0, self.limit - self.n_out) if self.limit >= 0 else -1,
            new_line=self._text.new_line,
            sampling=self.sampler.parameters,
            lora=self.sequence.adapters,
        )

    def prefilled(self) -> list[Event]:
        """The prompt is computed and no token wanted."""
        self._first = time.monotonic()
        return self._end("limit")

    def take(self, token: int, probability: Probability | None = None) -> list[Event]:
        """The next token was sampled."""
        self.n_out += 1
        self._silent += 1
        if self.job.request.return_tokens:
            self._ids.append(token)
        if self.n_out == 1:
            self._first = time.monotonic()
        sequence = self.sequence
        if token in self._vocabulary.end:
            return self._end("eos")
        data = self._vocabulary.pieces[token]
        self._output.feed(token, data, probability)
        if self._guide is not None:
            self._guide.took(token, data, whole=self._output.whole)
        if self._text.ended:
            return self._end("limit")
        if self._output.stop_word:
            return self._end("word")
        if self._output.done:
            return self._end("eos")
        if self.n_out == self.limit:
            return self._end("limit")
        if sequence.size + 1 >= len(sequence.tokens):
            return self._end("context")
        sequence.append(token)
        return self._events() if self._streams and self._output.pending else []

    def conclude(self) -> None:
        """A client wants the reasoning to end."""
        if self._guide is not None:
            self._guide.end_reasoning()

    def _events(self) -> list[Event]:
        silent, self._silent = self._silent, 0
        events = self._output.events(self.job.key[1], silent)
        if not self._ids:
            return events
        ids, self._ids = self._ids, []
        return _identified(events, self.job.key[1], ids)

    def _end(self, reason: str) -> list[Event]:
        self._output.finish(complete=reason == "eos")
        self.reason = "word" if self._output.stop_word else reason
        events = self._events() if self._output.pending or self._ids else []
        details = self._details() if self.job.request.details else None
        stop_word, reasoned = self._output.stop_word, self._output.reasoning_tokens
        return [*events, Finished(self.job.key[1], self.reason, stop_word, self._timings(), details, reasoned)]

    def _details(self) -> Details:
        sampling = replace(self.sampler.parameters, seed=self.sampler.seed)
        return Details(sampling, self.sequence.held, self._text.new_line, self.sequence.adapters)

    def _timings(self) -> Timings:
        predicted = (time.monotonic() - self._first) * 1000
        prompt = len(self.job.prompt) - self._cached
        return Timings(self._cached, prompt, self.prompt_seconds * 1000, self.n_out, predicted)


def _text(job: Job, vocabulary: Vocabulary) -> LineText:
    request: Generate = job.request
    stop = () if job.machines else request.stop  # a machine looks for them in content only
    seconds = max(0, request.t_max_predict_ms) / 1000
    return LineText(stop, strip=_starts_anew(job, vocabulary), seconds=seconds, indent=request.n_indent)


def _output(job: Job, text: LineText, vocabulary: Vocabulary) -> Output:
    if job.machines:
        return Parsed(text, job.machines[0], job.request.stop)
    return Plain(text, vocabulary.hidden(job.request.preserved_tokens) if job.request.preserved_tokens else {})


def _identified(events: list[Event], id: int, ids: list[int]) -> list[Event]:
    """The same events; the ids go with the first Delta, or with one that shows no text."""
    for index, event in enumerate(events):
        if isinstance(event, Delta):
            return [*events[:index], replace(event, ids=ids), *events[index + 1 :]]
    return [*events, Delta(id, "", 0, None, ids)]


def _starts_anew(job: Job, vocabulary: Vocabulary) -> bool:
    """Whether the reply begins a text, so that the space which the vocabulary puts before a text is not the model's."""
    prompt = job.request.prompt
    return vocabulary.adds_space and isinstance(prompt, Chat) and not prompt.continue_final
