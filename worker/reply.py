"""One running request: its slot, its sampler, and its reply as events. ENGINE.md, 9 and 18."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.chat.split import Split
from worker.protocol import Chat, Delta, Event, Finished, Progress, Started, Timings
from worker.seams import Job
from worker.sequences import Slot
from worker.text import TextStream

if TYPE_CHECKING:
    from worker.sampling import Sampler
    from worker.vocabulary import Vocabulary


class Reply:
    """Takes sampled tokens, gives events; `reason` is set when it has ended."""

    __slots__ = (
        "_began", "_cached", "_first", "_parts", "_silent", "_split", "_text", "_vocabulary",
        "job", "limit", "n_out", "prompt_seconds", "reason", "sampler", "slot",
    )  # fmt: skip

    def __init__(self, job: Job, slot: Slot, cached: int, sampler: Sampler, limit: int, vocabulary: Vocabulary) -> None:
        """`limit` is the most tokens to generate, -1 for as many as the context holds."""
        self.job, self.slot, self.sampler = job, slot, sampler
        self.reason = ""
        self.n_out = 0
        self.prompt_seconds = 0.0
        self._vocabulary = vocabulary
        self._cached = cached
        self.limit = limit
        self._split = Split(job.machine, job.request.stop) if job.machine is not None else None
        stop = job.request.stop if self._split is None else ()
        self._text = TextStream(stop, strip=_starts_anew(job, vocabulary))
        self._parts: list[str] = []  # text not yet sent: all of it if the request does not stream
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

    def take(self, token: int) -> list[Event]:
        """The next token was sampled."""
        self.n_out += 1
        self._silent += 1
        if self.n_out == 1:
            self._first = time.monotonic()
        slot = self.slot
        if token in self._vocabulary.end:
            return self._end("eos")
        ready = self._read(token)
        if self._stop_word:
            return self._end("word")
        if self._split is not None and self._split.done:
            return self._end("eos")
        if self.n_out == self.limit:
            return self._end("limit")
        if slot.size + 1 >= len(slot.tokens):
            return self._end("context")
        slot.append(token)
        return self._delta() if ready and self.job.request.stream else []

    @property
    def _stop_word(self) -> str:
        return self._text.stop_word if self._split is None else self._split.stop_word

    def _read(self, token: int) -> bool:
        """Takes a token's text; whether there is something to send."""
        data = self._vocabulary.pieces[token]
        if self._split is not None:
            return self._split.feed(self._text.feed(data or self._split.shown.get(token, b"")))
        text = self._text.feed(data)
        if text:
            self._parts.append(text)
        return bool(text)

    def _delta(self) -> list[Event]:
        silent, self._silent = self._silent, 0
        if self._split is not None:
            return self._split.events(self.job.key[1], silent)
        text = "".join(self._parts)
        self._parts.clear()
        return [Delta(self.job.key[1], text, silent)]

    def _end(self, reason: str) -> list[Event]:
        rest, split = self._text.finish(), self._split
        if split is not None:
            split.feed(rest)
            split.finish(complete=reason == "eos")
        elif rest:
            self._parts.append(rest)
        self.reason = "word" if self._stop_word else reason
        events = self._delta() if self._parts or (split is not None and split.pending) else []
        return [*events, Finished(self.job.key[1], self.reason, self._stop_word, self._timings())]

    def _timings(self) -> Timings:
        predicted = (time.monotonic() - self._first) * 1000
        prompt = len(self.job.prompt) - self._cached
        return Timings(self._cached, prompt, self.prompt_seconds * 1000, self.n_out, predicted)


def _starts_anew(job: Job, vocabulary: Vocabulary) -> bool:
    """Whether the reply begins a text, so that the space which the vocabulary puts before a text is not the model's."""
    prompt = job.request.prompt
    return vocabulary.adds_space and isinstance(prompt, Chat) and not prompt.continue_final
