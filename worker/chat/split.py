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
        for (kind, call), group in groupby(self._parts, key=lambda part: (part.kind, part.call)):
            parts = list(group)
            text = "".join(part.text for part in parts)
            match kind:
                case Kind.CONTENT:
                    events.append(Delta(id, text, tokens))
                case Kind.REASONING:
                    events.append(Reasoning(id, text, tokens))
                case Kind.CALL:
                    events.append(CallStart(id, call, parts[0].id, text, tokens))
                case Kind.ARGUMENTS:
                    events.append(CallDelta(id, call, text, tokens))
            tokens = 0
        self._parts.clear()
        return events

    def _take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if part.kind is Kind.CONTENT:
                shown, self.stop_word = self._stops.feed(part.text)
                self._put(shown)
                if self.stop_word:
                    return
            else:
                self._put(self._stops.flush())
                self._parts.append(part)

    def _put(self, text: str) -> None:
        if text:
            self._parts.append(Part(Kind.CONTENT, text))
