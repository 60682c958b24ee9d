"""An answer with one choice, as a row of blocks: what the dialects beside OpenAI chat have in common."""

from __future__ import annotations

from abc import abstractmethod

from proxy.dialects.answer import Answer, Indexed
from proxy.dialects.blocks import Blocks, Step
from proxy.dialects.fields import Fields
from worker.protocol import Accepted, Event, Finished, Progress, Started, Timings


class Single(Answer):
    """Counts and blocks of one reply. Children give the shapes; each of them may be no bytes at all."""

    def __init__(self, model: str, fields: Fields) -> None:
        self.model, self.fields = model, fields
        self.blocks = Blocks()
        self.prompt_tokens = self.cached = 0
        self.finished: Finished | None = None

    # -- the shapes ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def begin(self) -> bytes:
        """What a stream begins with, once the counts of the prompt are known."""

    @abstractmethod
    def step(self, step: Step) -> bytes:
        """What one step of a block is."""

    @abstractmethod
    def end(self) -> bytes:
        """What a stream ends with."""

    def progress(self, event: Progress) -> bytes:
        """How far the prompt is."""
        return b""

    # -- what all of them do ------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.finished is not None

    @property
    def reason(self) -> str:
        """Why the reply has ended: see Finished; "tools" where it did so to have tools called."""
        assert self.finished is not None
        cut = self.finished.reason in ("limit", "context")
        return "tools" if self.blocks.called and not cut else self.finished.reason

    @property
    def timings(self) -> Timings:
        return self.finished.timings if self.finished else Timings(cache_n=self.cached)

    def records(self, events: Indexed) -> bytes:
        parts: list[bytes] = []
        batch: list[Event] = []
        for _, event in events:
            if isinstance(event, Accepted | Started | Progress | Finished):
                parts += map(self.step, self.blocks.take(batch))
                batch.clear()
                parts.append(self._milestone(event))
            else:
                batch.append(event)
        parts += map(self.step, self.blocks.take(batch))
        return b"".join(parts)

    def collect(self, events: Indexed) -> None:
        for _, event in events:
            self._note(event)
            self.blocks.take([event])

    def _milestone(self, event: Accepted | Started | Progress | Finished) -> bytes:
        self._note(event)
        match event:
            case Started():
                return self.begin()
            case Progress():
                return self.progress(event)
            case Finished():
                return b"".join(map(self.step, self.blocks.finish())) + self.end()
            case Accepted():
                return b""

    def _note(self, event: Event) -> None:
        match event:
            case Accepted():
                self.prompt_tokens = event.prompt_tokens
            case Started():
                self.cached = event.cached
            case Finished():
                self.finished = event
            case _:
                pass
