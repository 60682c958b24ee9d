"""One running request: its slot, its sampler, and its reply as events. ENGINE.md, 9 and 18."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.probabilities import Probabilities
from worker.protocol import Chat, Delta, Event, Finished, Probability, Progress, Started, Timings
from worker.seams import Job
from worker.sequences import Slot
from worker.text import TextStream

if TYPE_CHECKING:
    from worker.sampling import Sampler
    from worker.vocabulary import Vocabulary


class Reply:
    """Takes sampled tokens, gives events; `reason` is set when it has ended."""

    __slots__ = (
        "_began", "_cached", "_first", "_parts", "_pending", "_shown", "_silent", "_streams", "_text", "_vocabulary",
        "job", "limit", "n_out", "probabilities", "prompt_seconds", "reason", "sampler", "siblings",
        "slot",
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
        self._text = TextStream(job.request.stop, strip=_starts_anew(job, vocabulary))
        self._parts: list[str] = []  # text not yet sent: all of it if the request does not stream
        self._shown = 0  # characters given to _parts so far
        self.probabilities = Probabilities(job.request, vocabulary) if job.request.n_probs >= 0 else None
        self._pending: list[tuple[int, Probability]] = []  # tokens not yet shown, by the place of their first character
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
        if probability is not None:
            self._pending.append((self._shown + self._text.held, probability))
        text = self._text.feed(self._vocabulary.pieces[token])
        if text:
            self._show(text)
        if self._text.stop_word:
            return self._end("word")
        if self.n_out == self.limit:
            return self._end("limit")
        if slot.size + 1 >= len(slot.tokens):
            return self._end("context")
        slot.append(token)
        return self._delta() if text and self._streams else []

    def _show(self, text: str) -> None:
        self._parts.append(text)
        self._shown += len(text)

    def _delta(self) -> list[Event]:
        text = "".join(self._parts)
        self._parts.clear()
        silent, self._silent = self._silent, 0
        probs = [probability for at, probability in self._pending if at < self._shown]
        del self._pending[: len(probs)]
        return [Delta(self.job.key[1], text, silent, probs or None)]

    def _end(self, reason: str) -> list[Event]:
        if rest := self._text.finish():
            self._show(rest)
        self.reason = "word" if self._text.stop_word else reason
        if self.reason == "word":
            self._pending = [(at, probability) for at, probability in self._pending if at < self._shown]
        self._shown += 1  # tokens without a character of their own are at the very end
        events = self._delta() if self._parts or self._pending else []
        return [*events, Finished(self.job.key[1], self.reason, self._text.stop_word, self._timings())]

    def _timings(self) -> Timings:
        predicted = (time.monotonic() - self._first) * 1000
        prompt = len(self.job.prompt) - self._cached
        return Timings(self._cached, prompt, self.prompt_seconds * 1000, self.n_out, predicted)


def _starts_anew(job: Job, vocabulary: Vocabulary) -> bool:
    """Whether the reply begins a text, so that the space which the vocabulary puts before a text is not the model's."""
    prompt = job.request.prompt
    return vocabulary.adds_space and isinstance(prompt, Chat) and not prompt.continue_final
