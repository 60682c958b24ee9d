"""Steps that read a call as a JSON object, and where a JSON value ends. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto

from worker.chat.steps import BLANK, FAILS, FITS, MORE, WORD, Attempt, Outcome

_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[\s,}\]]")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NOT_BLANK = re.compile(r"\S")


class Value:
    """Follows one JSON value to its end, without judging it."""

    __slots__ = ("_depth", "_escaped", "_kind", "_string", "at")

    def __init__(self, at: int = 0) -> None:
        """`at` is where it begins, and after a call of `end` how far it was followed."""
        self.at = at
        self._depth, self._string, self._escaped = 0, False, False
        self._kind = ""

    def end(self, text: str) -> int:
        """The place after the value, -1 while it goes on. `text` may have grown since the last call."""
        while self.at < len(text):
            if not self._kind:
                self._kind = text[self.at]
                if self._kind not in '"{[':
                    continue
            if self._string:
                self._in_string(text)
            elif self._kind in '"{[':
                found = _STRUCTURE.search(text, self.at)
                self.at = found.end() if found else len(text)
                if found is None:
                    break
                self._string = found[0] == '"'
                self._depth += (found[0] in "{[") - (found[0] in "}]")
            else:
                found = _SCALAR_END.search(text, self.at)
                self.at = found.start() if found else len(text)
                return self.at if found else -1
            if not self._string and self._depth <= 0:
                return self.at
        return -1

    def _in_string(self, text: str) -> None:
        if self._escaped:
            self.at, self._escaped = self.at + 1, False
            return
        found = _IN_STRING.search(text, self.at)
        self.at = found.end() if found else len(text)
        if found:
            self._escaped = found[0] == "\\"
            self._string = self._escaped


class _Part(Enum):
    """Where in a JSON object a reader stands."""

    OPEN = auto()
    FIRST = auto()  # a key, or the end
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    WITHIN = auto()
    NEXT = auto()


class _Members:
    """What a step remembers of a JSON object."""

    __slots__ = ("key", "part", "start", "value")

    def __init__(self, part: _Part) -> None:
        self.part, self.key, self.start = part, "", 0
        self.value: Value | None = None


@dataclass(frozen=True, slots=True)
class CallObject:
    """A JSON object with a declared tool's name, up to where its arguments begin; members come in any order.

    Arguments that come before the name are read whole. So are those that are no object: a string with JSON in it.
    numbered: the model writes an id of its own, a number, before the name.
    """

    name: str = "name"
    arguments: tuple[str, ...] = ("arguments", "parameters")
    id: str = "id"
    numbered: bool = False

    def read(self, attempt: Attempt, text: str) -> Outcome:
        members: _Members = attempt.reader or _Members(_Part.OPEN)
        attempt.reader = members
        while True:
            if members.part is _Part.WITHIN:
                assert members.value is not None
                end = members.value.end(text)
                if end < 0:
                    return MORE
                if not self._keep(attempt, members, text[members.start : end]):
                    return FAILS
                attempt.at, members.part = end, _Part.NEXT
                if attempt.name and attempt.arguments is not None:
                    attempt.closed = False
                    return FITS
            found = _NOT_BLANK.search(text, attempt.at)
            if found is None:
                return MORE if len(text) - attempt.at < BLANK else FAILS
            attempt.at = found.start()
            if members.part is not _Part.VALUE:
                outcome = _punctuation(attempt, members, text)
                if outcome is not FITS:
                    return outcome
                if attempt.closed and members.part is _Part.OPEN:  # the object's end
                    attempt.arguments = attempt.arguments or "{}"
                    return FITS if attempt.name else FAILS
                continue
            char = text[attempt.at]
            if members.key in self.arguments:
                if char == "{" and attempt.name:
                    attempt.closed = False
                    return FITS
                if char not in '{"n':
                    return FAILS
            elif members.key == self.name:
                if not self._may_be_name(attempt, text):
                    return FAILS
            elif not attempt.name and members.key not in (self.id, "type"):
                return FAILS  # some other object: it must not be held back
            members.start, members.value = attempt.at, Value(attempt.at)
            members.part = _Part.WITHIN

    def _may_be_name(self, attempt: Attempt, text: str) -> bool:
        """Whether this is still the beginning of a declared name."""
        begun = text[attempt.at + 1 : attempt.at + WORD]
        ends = [f'{name}"' for name in attempt.names]
        return text[attempt.at] == '"' and any(end.startswith(begun) or begun.startswith(end) for end in ends)

    def _keep(self, attempt: Attempt, members: _Members, raw: str) -> bool:
        if members.key == self.name:
            attempt.name = raw[1:-1]
            return attempt.name in attempt.names
        if members.key in self.arguments:
            attempt.arguments = unquoted(raw)
            return attempt.arguments is not None
        if members.key == self.id and raw[:1] == '"' and 0 < len(raw) - 2 <= WORD and "\\" not in raw:
            attempt.id = raw[1:-1]
        return True

    def beginnings(self) -> str:
        return "{"

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class CallObjectEnd:
    """The members after the arguments and the closing brace; takes nothing where they do not follow."""

    def read(self, attempt: Attempt, text: str) -> Outcome:
        if attempt.closed:
            return FITS
        if attempt.reader is None:
            attempt.reader = (attempt.at, _Members(_Part.NEXT))
        begin, members = attempt.reader
        while True:
            if members.part is _Part.WITHIN:
                end = members.value.end(text)
                if end < 0:
                    return MORE
                attempt.at, members.part = end, _Part.NEXT
            found = _NOT_BLANK.search(text, attempt.at)
            if found is None:
                return MORE
            attempt.at = found.start()
            if members.part is _Part.VALUE:
                members.value, members.part = Value(attempt.at), _Part.WITHIN
                continue
            outcome = _punctuation(attempt, members, text)
            if outcome is MORE:
                return MORE
            if outcome is FAILS:
                attempt.at = begin
            if outcome is FAILS or members.part is _Part.OPEN:
                attempt.closed = True
                return FITS

    def beginnings(self) -> str:
        return ""

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


def _punctuation(attempt: Attempt, members: _Members, text: str) -> Outcome:
    """One brace, comma, colon or key of a JSON object; `members.part` is OPEN again after its end."""
    char = text[attempt.at]
    match members.part, char:
        case _Part.OPEN, "{":
            members.part = _Part.FIRST
        case ((_Part.FIRST | _Part.NEXT), "}"):
            members.part = _Part.OPEN
        case _Part.NEXT, ",":
            members.part = _Part.KEY
        case _Part.COLON, ":":
            members.part = _Part.VALUE
        case ((_Part.FIRST | _Part.KEY), '"'):
            found = _STRING.match(text, attempt.at, attempt.at + WORD + 2)
            if found is None:
                return MORE if len(text) - attempt.at < WORD + 2 else FAILS
            members.key, members.part = found[1], _Part.COLON
            attempt.at = found.end()
            return FITS
        case _:
            return FAILS
    attempt.at += 1
    return FITS


def unquoted(raw: str) -> str | None:
    """Arguments that were not streamed: an object as it is, the object in a string, `{}` for null; None for others."""
    if raw == "null":
        return "{}"
    if raw[:1] == "{":
        return raw
    try:
        text = json.loads(raw, strict=False)
        text.encode()  # an escaped half of a surrogate pair is no text
    except (ValueError, AttributeError):
        return None
    return text.strip() if is_object(text) else None


def is_object(text: str) -> bool:
    """Whether the text is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
