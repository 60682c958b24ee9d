"""Words and tokens that start a lazy grammar, looked for in the output without regular expressions. ENGINE.md, 8."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Triggers:
    """Words, and tokens with their spelling."""

    words: tuple[str, ...]
    tokens: Mapping[int, str]

    def new(self) -> Search:
        return Search(self.words, self.tokens)


class Search:
    """In one reply, up to the first find."""

    def __init__(self, words: Sequence[str], tokens: Mapping[int, str]) -> None:
        self._words, self._tokens = words, tokens
        self._longest = max(map(len, words), default=0)
        self._tail = ""  # as much of the past as a word may have begun in
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int, data: bytes) -> str | None:
        """The text from the trigger on, which a grammar must read; None without one."""
        if (spelling := self._tokens.get(token)) is not None:
            return spelling
        text = self._tail + self._decoder.decode(data)
        places = [at for word in self._words if (at := text.find(word)) >= 0]
        self._tail = text[-self._longest :]
        return text[min(places) :] if places else None
