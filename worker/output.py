"""A reply's tokens → the events that may be shown, with the tokens' probabilities where they are asked for.

Plain   the output is one text
Parsed  a machine splits it into content, reasoning and calls; only content shows probabilities
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from worker.chat.machine import Machine
from worker.chat.split import Split
from worker.protocol import Delta, Event, Probability
from worker.text import TextStream


class Output(Protocol):
    """What a reply does with its tokens. `done`: nothing more is wanted; `pending`: something waits to be sent."""

    @property
    def stop_word(self) -> str: ...

    @property
    def done(self) -> bool: ...

    @property
    def pending(self) -> bool: ...

    @property
    def whole(self) -> bool:
        """Whether the text so far does not end within a character."""

    @property
    def reasoning_tokens(self) -> int: ...

    def feed(self, token: int, data: bytes, probability: Probability | None) -> None:
        """Takes a token and the text it shows."""

    def finish(self, *, complete: bool) -> None:
        """complete: the model ended its output itself."""

    def events(self, id: int, tokens: int) -> list[Event]:
        """What waits; `tokens` were decoded for it."""


class Plain:
    """See Output."""

    done = False
    reasoning_tokens = 0

    def __init__(self, text: TextStream, shown: Mapping[int, bytes]) -> None:
        """`shown`: hidden tokens that are shown all the same."""
        self._text, self._hidden = text, shown
        self._parts: list[str] = []  # not yet sent
        self._shown = 0  # characters given to _parts so far
        self._probabilities: list[tuple[int, Probability]] = []  # not yet sent, by the place of their first character

    @property
    def stop_word(self) -> str:
        return self._text.stop_word

    @property
    def pending(self) -> bool:
        return bool(self._parts)

    @property
    def whole(self) -> bool:
        return self._text.whole

    def feed(self, token: int, data: bytes, probability: Probability | None) -> None:
        if probability is not None:
            self._probabilities.append((self._shown + self._text.held, probability))
        if text := self._text.feed(data or self._hidden.get(token, b"")):
            self._show(text)

    def finish(self, *, complete: bool) -> None:
        if rest := self._text.finish():
            self._show(rest)
        if self.stop_word:  # tokens that it cuts off take their probabilities along
            self._probabilities = [(at, found) for at, found in self._probabilities if at < self._shown]
        if self._probabilities and not self._parts:
            self._parts.append("")
        self._shown += 1  # tokens without a character of their own are at the very end

    def events(self, id: int, tokens: int) -> list[Event]:
        text = "".join(self._parts)
        self._parts.clear()
        found = [probability for at, probability in self._probabilities if at < self._shown]
        del self._probabilities[: len(found)]
        return [Delta(id, text, tokens, found or None)]

    def _show(self, text: str) -> None:
        self._parts.append(text)
        self._shown += len(text)


class Parsed:
    """See Output. A token's probability is shown if the text that it completes is content."""

    def __init__(self, text: TextStream, machine: Machine, stop: tuple[str, ...]) -> None:
        """`text` finds no stop strings: they count in content only."""
        self._text, self._split, self._machine = text, Split(machine, stop), machine
        self.reasoning_tokens = 0
        self._held: list[Probability] = []  # of tokens whose text may still become a marker or a stop string
        self._shown: list[Probability] = []  # of content not yet sent

    @property
    def stop_word(self) -> str:
        return self._split.stop_word

    @property
    def done(self) -> bool:
        return self._split.done

    @property
    def pending(self) -> bool:
        return self._split.pending

    @property
    def whole(self) -> bool:
        return self._text.whole

    def feed(self, token: int, data: bytes, probability: Probability | None) -> None:
        self.reasoning_tokens += self._machine.reasoning
        if probability is not None:
            self._held.append(probability)
        self._split.feed(self._text.feed(data or self._split.shown.get(token, b"")))
        self._settle()

    def finish(self, *, complete: bool) -> None:
        self._split.feed(self._text.finish())
        self._split.finish(complete=complete)
        self._settle()

    def events(self, id: int, tokens: int) -> list[Event]:
        events = self._split.events(id, tokens)
        for index, event in enumerate(events):
            if isinstance(event, Delta) and self._shown:
                events[index] = replace(event, probs=self._shown)
                self._shown = []
        return events

    def _settle(self) -> None:
        """What was held has become content, or something else."""
        if self._held and self._split.pending:
            if self._split.content:
                self._shown += self._held
            self._held.clear()
