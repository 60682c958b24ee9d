"""One running request: its slot, its sampler, and its reply as events. ENGINE.md, 9 and 18."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.output import Output, Parsed, Plain
from worker.probabilities import Probabilities
from worker.protocol import Chat, Event, Finished, Probability, Progress, Started, Timings
from worker.seams import Job
from worker.sequences import Slot
from worker.text import TextStream

if TYPE_CHECKING:
    from worker.sampling import Sampler
    from worker.vocabulary import Vocabulary


class Reply:
    """Takes sampled tokens, gives events; `reason` is set when it has ended."""

    __slots__ = (
        "_began", "_cached", "_first", "_guide", "_output", "_silent", "_streams", "_vocabulary",
        "job", "limit", "n_out", "probabilities", "prompt_seconds", "reason", "sampler", "siblings", "slot",
    )  # fmt: skip

    def __init__(self, job: Job, slot: Slot, cached: int, sampler: Sampler, limit: int, vocabulary: Vocabulary) -> None:
        """`limit` is the most tokens to generate, -1 for as many as the context holds."""
        self.job, self.slot, self.sampler = job, slot, sampler
        self.reason = ""
        self.siblings: list[Reply] = []  # choices that wait for this one's prompt
        self.n_out = 0
        self.prompt_seconds = 0.0
        self._vocabulary = vocabulary
        self._cached = cached
        self.limit = limit
        self._output = _output(job, vocabulary)
        self._guide = job.guides[0] if job.guides else None
        self.probabilities = Probabilities(job.request, vocabulary) if job.request.n_probs >= 0 else None
        # probabilities go out as they come, even to a client that does not stream: they may fill many frames
        self._streams = job.request.stream or self.probabilities is not None
        self._silent = 0  # tokens decoded since the last Delta
        self._began = time.monotonic()
        self._first = 0.0

    @property
    def decoding(self) -> bool:
        """Whether the prompt is in the cache and one token waits to be decoded."""
        return self.n_out > 0

    def started(self) -> Event:
        return Started(self.job.key[1], self._cached)

    def progressed(self, rows: int, seconds: float) -> list[Event]:
        """A step has computed `rows` of the prompt."""
        self.prompt_seconds += seconds
        if not self.job.request.return_progress:
            return []
        elapsed = (time.monotonic() - self._began) * 1000
        total = len(self.job.prompt)
        return [Progress(self.job.key[1], total, self._cached, min(self.slot.held, total), elapsed)]

    def prefilled(self) -> list[Event]:
        """The prompt is computed and no token wanted."""
        self._first = time.monotonic()
        return self._end("limit")

    def take(self, token: int, probability: Probability | None = None) -> list[Event]:
        """The next token was sampled."""
        self.n_out += 1
        self._silent += 1
        if self.n_out == 1:
            self._first = time.monotonic()
        slot = self.slot
        if token in self._vocabulary.end:
            return self._end("eos")
        data = self._vocabulary.pieces[token]
        self._output.feed(token, data, probability)
        if self._guide is not None:
            self._guide.took(token, data, whole=self._output.whole)
        if self._output.stop_word:
            return self._end("word")
        if self._output.done:
            return self._end("eos")
        if self.n_out == self.limit:
            return self._end("limit")
        if slot.size + 1 >= len(slot.tokens):
            return self._end("context")
        slot.append(token)
        return self._events() if self._streams and self._output.pending else []

    def conclude(self) -> None:
        """A client wants the reasoning to end."""
        if self._guide is not None:
            self._guide.end_reasoning()

    def _events(self) -> list[Event]:
        silent, self._silent = self._silent, 0
        return self._output.events(self.job.key[1], silent)

    def _end(self, reason: str) -> list[Event]:
        self._output.finish(complete=reason == "eos")
        self.reason = "word" if self._output.stop_word else reason
        events = self._events() if self._output.pending else []
        stop_word, reasoned = self._output.stop_word, self._output.reasoning_tokens
        return [*events, Finished(self.job.key[1], self.reason, stop_word, self._timings(), reasoned)]

    def _timings(self) -> Timings:
        predicted = (time.monotonic() - self._first) * 1000
        prompt = len(self.job.prompt) - self._cached
        return Timings(self._cached, prompt, self.prompt_seconds * 1000, self.n_out, predicted)


def _output(job: Job, vocabulary: Vocabulary) -> Output:
    strip, stop = _starts_anew(job, vocabulary), job.request.stop
    if job.machines:
        return Parsed(TextStream(strip=strip), job.machines[0], stop)
    shown = vocabulary.hidden(job.request.preserved_tokens) if job.request.preserved_tokens else {}
    return Plain(TextStream(stop, strip=strip), shown)


def _starts_anew(job: Job, vocabulary: Vocabulary) -> bool:
    """Whether the reply begins a text, so that the space which the vocabulary puts before a text is not the model's."""
    prompt = job.request.prompt
    return vocabulary.adds_space and isinstance(prompt, Chat) and not prompt.continue_final
