"""Limits that end a reply by its lines: a time, taken at a line break, and the least indent. API.md, 5."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from worker.text import TextStream


class LineText(TextStream):
    """A TextStream that watches the lines it shows; `ended` once a limit is reached, and then it shows no more.

    seconds: from the first token on; past them the text ends with the line. indent: a line, the first one aside, that
    begins with fewer blanks ends the text before its first other character. 0: no such limit.
    """

    def __init__(
        self,
        stop: Sequence[str] = (),
        *,
        strip: bool = False,
        seconds: float = 0.0,
        indent: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stop, strip=strip)
        self.new_line = self.ended = False
        self._seconds, self._indent, self._clock = seconds, indent, clock
        self._limited = seconds > 0 or indent > 0
        self._due = float("inf")
        self._blanks: int | None = None  # those at the beginning of a line; None: within a line

    def feed(self, data: bytes) -> str:
        if self._limited and self._due == float("inf"):
            self._due = self._clock() + (self._seconds or float("inf"))
        return self._watch(super().feed(data))

    def finish(self) -> str:
        return "" if self.ended else self._watch(super().finish())

    def _watch(self, text: str) -> str:
        if not self._limited:
            self.new_line = self.new_line or "\n" in text
            return text
        end = self._end(text)
        if end is None:
            return text
        self.ended, self.stop_word = True, ""  # a stop string can only come behind it
        return text[:end]

    def _end(self, text: str) -> int | None:
        """Where a limit cuts this text, if one does."""
        at = 0
        while at < len(text):
            if self._blanks is not None:
                rest = text[at:].lstrip(" \t")
                self._blanks += len(text) - at - len(rest)
                at = len(text) - len(rest)
                if not rest:
                    break
                if self._blanks < self._indent:
                    return at
                self._blanks = None
            at = text.find("\n", at) + 1
            if not at:
                break
            self._blanks, self.new_line = 0, True
            if self._clock() >= self._due:
                return at
        return None
