"""A family for a template that fits no table: what its rendering has around known words are the markers. ENGINE.md, 11.

Two syntaxes are recognised: a JSON object (or a list of them) with name and arguments, and a name before its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from worker.chat.families.family import Call, Family, Rule, row
from worker.chat.families.objects import listed
from worker.chat.families.thinking import LINES, pair
from worker.chat.objects import CallObject
from worker.chat.steps import Blank, Name, OneOf
from worker.failure import RequestError

Render = Callable[[list[dict[str, Any]]], str]  # raises RequestError
_NAME, _KEY, _VALUE, _TEXT, _THOUGHT = (f"qxz{word}" for word in ("name", "key", "value", "text", "thought"))
_USER = {"role": "user", "content": "hello"}
_CALL = {"id": "call00001", "type": "function", "function": {"name": _NAME, "arguments": json.dumps({_KEY: _VALUE})}}
_GAP = Blank()
_NOTHING = Family("derived", ())


def complete(family: Family | None, render: Render) -> Family | None:
    """The family with what its template shows beyond it; None if there is nothing."""
    found = family or _NOTHING
    if not found.calls:
        found = replace(found, calls=_calls(render))
    if not found.thoughts:
        found = replace(found, thoughts=_thoughts(render))
    return found if found.calls or found.thoughts else family


def _calls(render: Render) -> tuple[Rule, ...]:
    text = _answer(render, {"content": "", "tool_calls": [_CALL]})
    if text is None or text.count(_NAME) != 1 or not all(word in text for word in (_KEY, _VALUE)):
        return ()
    rule = _by_object(text) or _by_name(text)
    return (rule,) if rule else ()


def _thoughts(render: Render) -> tuple[Rule, ...]:
    text = _answer(render, {"content": _TEXT, "reasoning_content": _THOUGHT})
    if text is None:
        return ()
    opening, _, rest = text.partition(_THOUGHT)
    closing, found, _ = rest.partition(_TEXT)
    opening, closing = opening.strip(), closing.strip()
    return (pair(opening, closing, anchored=True),) if found and opening and closing else ()


def _answer(render: Render, message: dict[str, Any]) -> str | None:
    """What the template shows for a message and not for another one; None if it refuses either."""
    try:
        other = render([_USER, {"role": "assistant", "content": "\ue000"}])
        whole = render([_USER, {"role": "assistant", **message}])
    except RequestError:
        return None
    head = _common(whole, other)
    tail = _common(whole[head:][::-1], other[head:][::-1])
    return whole[head : len(whole) - tail]


def _by_object(text: str) -> Rule | None:
    """`opening{"name": "f", "arguments": {…}}closing`, or a list of those."""
    for start, value, end in _objects(text):
        names = [key for key, member in value.items() if member == _NAME]
        keys = [key for key, member in value.items() if member == {_KEY: _VALUE}]
        if names and keys:
            opening, closing = text[:start].strip(), text[end:].strip()
            call = CallObject(names[0], (keys[0],))
            if opening.endswith("[") and closing.startswith("]"):
                opening = opening[:-1].rstrip()
                return listed(opening, closing[1:].lstrip(), call) if opening else None
            steps = row(LINES, opening, _GAP, call) if opening else (call,)
            return Rule(steps, Call(closers=_some(closing)), anchored=not opening)
    return None


def _by_name(text: str) -> Rule | None:
    """`opening f separator {…} closing`."""
    opening, _, rest = text.partition(_NAME)
    for start, value, end in _objects(rest):
        if value == {_KEY: _VALUE} and opening.strip():
            between = rest[:start].strip()
            steps = row(LINES, opening.strip(), _GAP, Name(), _GAP, *_some(between), _GAP, OneOf(("{",), look=True))
            return Rule(steps, Call(closers=_some(rest[end:].strip())))
    return None


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any], int]]:
    """The JSON objects in a text, the outer before the inner: place, value, end."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
            yield start, value, end
        except ValueError:
            pass
        start = text.find("{", start + 1)


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()
