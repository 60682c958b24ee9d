"""Tokens' bytes → text that may be shown: whole characters only, nothing of a stop string. Pure. ENGINE.md, 9."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class StopStrings:
    """Finds the first stop string in a text that comes in pieces, holding back no more than may still become one."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(word for word in words if word)
        self.held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """What may be shown now, and the stop string found or "". After a find, feed no more."""
        if not self.words:
            return text, ""
        text = self.held + text
        found = min(((at, word) for word in self.words if (at := text.find(word)) >= 0), default=None, key=_earliest)
        if found is not None:
            self.held = ""
            return text[: found[0]], found[1]
        kept = max(_overlap(text, word) for word in self.words)
        self.held = text[len(text) - kept :]
        return text[: len(text) - kept], ""

    def flush(self) -> str:
        """What was held back and is no stop string after all."""
        held, self.held = self.held, ""
        return held


class TextStream:
    """The text of one reply. Its pieces, concatenated, are the reply; a stop string and what follows it are not shown.

    strip: the reply's first space is the vocabulary's, not the text's, and is dropped.
    """

    def __init__(self, stop: Sequence[str] = (), *, strip: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = StopStrings(stop)
        self._strip = strip
        self.stop_word = ""

    @property
    def held(self) -> int:
        """Whole characters that may still become a stop string."""
        return len(self._stops.held)

    @property
    def whole(self) -> bool:
        """Whether what was fed does not end within a character."""
        return not self._decoder.getstate()[0]

    def feed(self, data: bytes) -> str:
        """New text for the bytes of a token; sets `stop_word` when a stop string is complete."""
        text = self._decoder.decode(data)
        if self._strip and text:
            text, self._strip = text.removeprefix(" "), False
        if not self._stops.words:
            return text
        text, self.stop_word = self._stops.feed(text)
        return text

    def finish(self) -> str:
        """The rest at the end of the reply: an incomplete character becomes U+FFFD. Empty after a stop string."""
        if self.stop_word:
            return ""
        rest = self._decoder.decode(b"", final=True)
        shown, self.stop_word = self._stops.feed(rest)
        return shown + self._stops.flush()


def _earliest(found: tuple[int, str]) -> tuple[int, int]:
    at, word = found
    return at, -len(word)


def _overlap(text: str, word: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `word`."""
    for size in range(min(len(text), len(word) - 1), 0, -1):
        if text.endswith(word[:size]):
            return size
    return 0
