"""JSON that was cut off, as a call's arguments are when a reply ends at its limit: what of it is whole."""

from __future__ import annotations

from typing import Any

import orjson

_CLOSERS = {"{": "}", "[": "]"}


def parse(text: str) -> dict[str, Any]:
    """The object, without the member or element that is not whole; {} if it is none."""
    for candidate in (text, *_closed(text)):
        try:
            found = orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
        return found if isinstance(found, dict) else {}
    return {}


def _closed(text: str) -> tuple[str, str]:
    """All of the text, and what comes before its last unfinished value: both with their containers closed."""
    open_: list[str] = []
    end, closing = 0, ""
    quoted = escaped = False
    for at, char in enumerate(text):
        if quoted:
            quoted = escaped or char != '"'
            escaped = not escaped and char == "\\"
            continue
        if char == '"':
            quoted = True
        elif char in "{[":
            open_.append(_CLOSERS[char])
        elif char in "}]" and open_:
            open_.pop()
        if char in "{[}],":
            end, closing = at + (char != ","), "".join(reversed(open_))
    return text + "".join(reversed(open_)), text[:end] + closing
