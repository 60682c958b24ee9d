"""A machine's output as events: content up to a stop string, reasoning, calls. ENGINE.md, 9 and 11."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from worker.chat.machine import Kind, Machine, Part
from worker.protocol import CallDelta, CallStart, Delta, Event, Reasoning
from worker.text import StopStrings


class Split:
    """Of one reply. Stop strings are searched in content only; `stop_word` is the one found."""

    def __init__(self, machine: Machine, stop: Sequence[str]) -> None:
        self._machine, self._stops = machine, StopStrings(stop)
        self._parts: list[Part] = []  # not yet sent
        self.stop_word = ""

    @property
    def shown(self) -> Mapping[int, bytes]:
        """Tokens that are hidden from plain text, with their spelling."""
        return self._machine.shown

    @property
    def done(self) -> bool:
        """Whether the one call that was wanted is complete."""
        return self._machine.done

    @property
    def pending(self) -> bool:
        return bool(self._parts)

    @property
    def content(self) -> bool:
        """Whether content is among what is pending."""
        return any(part.kind is Kind.CONTENT for part in self._parts)

    def feed(self, text: str) -> bool:
        """Takes the model's next text; whether there is something to send."""
        if text:
            self._take(self._machine.feed(text))
        return bool(self._parts)

    def finish(self, *, complete: bool) -> None:
        """complete: the model ended its output itself."""
        if not self.stop_word:
            self._take(self._machine.finish(complete=complete))
        if not self.stop_word:
            self._put(self._stops.flush())

    def events(self, id: int, tokens: int) -> list[Event]:
        """What is to be sent; the first event counts the tokens."""
        events: list[Event] = []
        for part in _joined(self._parts):
            match part.kind:
                case Kind.CONTENT:
                    events.append(Delta(id, part.text, tokens))
                case Kind.REASONING:
                    events.append(Reasoning(id, part.text, tokens))
                case Kind.CALL:
                    events.append(CallStart(id, part.call, part.id, part.text, tokens))
                case Kind.ARGUMENTS:
                    events.append(CallDelta(id, part.call, part.text, tokens))
            tokens = 0
        self._parts.clear()
        return events

    def _take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if part.kind is Kind.CONTENT and self._stops.words:
                shown, self.stop_word = self._stops.feed(part.text)
                self._put(shown)
                if self.stop_word:
                    return
            else:
                if self._stops.held:
                    self._put(self._stops.flush())
                self._parts.append(part)

    def _put(self, text: str) -> None:
        if text:
            self._parts.append(Part(Kind.CONTENT, text))


def _joined(parts: list[Part]) -> Iterable[Part]:
    """Those of one kind and call that follow each other as one."""
    if len(parts) == 1:
        yield parts[0]
        return
    for (kind, call), group in groupby(parts, key=lambda part: (part.kind, part.call)):
        run = list(group)
        yield Part(kind, "".join(part.text for part in run), call, run[0].id)
