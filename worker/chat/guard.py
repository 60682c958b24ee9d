"""Keeps users from forging turns: control tokens spelled out in what they send stay plain text. ENGINE.md, 9.

Before rendering, each spelling of a control token in a message is wrapped in a pair of private-use characters that the
request does not contain; after rendering, the prompt is split there, and those parts are tokenized as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Piece = tuple[str, bool]  # text; whether control tokens in it are meant

_TRUSTED = ("assistant",)  # the model's own words come back with its own markers in them
_FIRST, _LAST = 0xE000, 0xF8FF


class Guard:
    """Knows the spellings of a vocabulary's control tokens."""

    def __init__(self, control: Iterable[str]) -> None:
        words = sorted(set(control), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, words))) if words else None

    def wrap(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> Wrapped:
        """The conversation as the template may see it."""
        pattern = self._pattern
        theirs = [message for message in messages if message.get("role") not in _TRUSTED]
        if pattern is None or not any(pattern.search(text) for text in _strings([theirs, tools])):
            return Wrapped(messages, tools, None)
        opening, closing = _unused(_strings([messages, tools]))
        wrap = lambda text: pattern.sub(lambda found: f"{opening}{found[0]}{closing}", text)  # noqa: E731
        safe = [message if message.get("role") in _TRUSTED else _map(message, wrap) for message in messages]
        split = re.compile(f"{opening}({pattern.pattern}){closing}")
        return Wrapped(safe, _map(tools, wrap), (split, opening, closing))


class Wrapped:
    """A guarded conversation, and how to read its rendering."""

    def __init__(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None,
        marks: tuple[re.Pattern[str], str, str] | None,
    ) -> None:  # fmt: skip
        self.messages, self.tools, self._marks = messages, tools, marks

    def pieces(self, rendered: str) -> list[Piece]:
        """The rendered prompt in parts, in order."""
        if self._marks is None:
            return [(rendered, True)]
        split, opening, closing = self._marks
        marks = str.maketrans("", "", opening + closing)  # halves that a template has torn apart
        parts = split.split(rendered)  # template text and forgeries in turn
        return [(part.translate(marks), index % 2 == 0) for index, part in enumerate(parts) if part]


def _unused(texts: Iterable[str]) -> tuple[str, str]:
    """Two private-use characters that occur in none of the texts."""
    used = set().union(*(set(text) for text in texts))
    free = (char for char in map(chr, range(_FIRST, _LAST + 1)) if char not in used)
    try:
        return next(free), next(free)
    except StopIteration:  # 6,400 of them in one request: nothing sensible is lost by refusing
        from worker.failure import RequestError

        raise RequestError("invalid_value", "the messages use every private-use character") from None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _map(value: Any, change: Callable[[str], str]) -> Any:
    """A copy with every string changed, keys included: a template prints tool schemas whole."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map(item, change) for item in value]
    return value
