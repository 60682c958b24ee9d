"""Matching a marker with what must follow it, while the text still grows. Pure.

A rule is a row of steps. An attempt walks it over text that begins where the marker may begin; each call goes on where
the last one stood, so a token costs what it adds. Every step has a bound on the whitespace and words it takes.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

_WORD = 64  # characters of an id or a key
BLANK = 64  # whitespace between two parts of a marker
_PYTHON = 4096  # characters of a call in Python's syntax, which is held until it ends
_BARE = 65536  # the same for one with bare keys
_BARE_KEY = re.compile(r"([^\W\d][\w.$-]*)(?=\s*:)")
_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[\s,}\]]")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_NOTBLANK = re.compile(r"\S")


class Outcome(Enum):
    """Of a step or a rule: it fits, it cannot fit, or only more text will tell."""

    FITS = auto()
    FAILS = auto()
    MORE = auto()


FITS, FAILS, MORE = Outcome.FITS, Outcome.FAILS, Outcome.MORE


class Step(Protocol):
    """Reads at `attempt.at` and moves it past what it takes."""

    def read(self, attempt: Attempt, text: str) -> Outcome: ...

    def beginnings(self) -> str:
        """The characters it may begin with; "" if it may also take nothing."""

    @property
    def spellings(self) -> tuple[str, ...]:
        """Its literal texts, where special tokens are looked for."""


class Attempt:
    """One rule at one place of the text, and what it has read there."""

    __slots__ = (
        "arguments", "at", "closed", "id", "key", "name", "names", "outcome", "reader", "step", "steps", "word",
    )  # fmt: skip

    def __init__(self, steps: Sequence[Step], names: Sequence[str] = (), *, closed: bool = True) -> None:
        """`names` are the declared tools; `closed`: no JSON object around the last arguments is open."""
        self.steps, self.names, self.closed = steps, names, closed
        self.at = self.step = 0
        self.outcome = MORE
        self.name = self.id = self.key = self.word = ""
        self.arguments: str | None = None  # whole, if they were read with the rule
        self.reader: Any = None  # what the current step remembers

    def advance(self, text: str) -> Outcome:
        """`text` is that of the last call and more."""
        while self.outcome is MORE:
            if self.step == len(self.steps):
                self.outcome = FITS
                break
            outcome = self.steps[self.step].read(self, text)
            if outcome is MORE:
                return MORE
            self.reader = None
            self.step += 1
            if outcome is FAILS:
                self.outcome = FAILS
        return self.outcome


@dataclass(frozen=True, slots=True)
class Exact:
    """This text."""

    text: str

    def read(self, attempt: Attempt, text: str) -> Outcome:
        outcome = _compare(self.text, text, attempt.at)
        if outcome is FITS:
            attempt.at += len(self.text)
        return outcome

    def beginnings(self) -> str:
        return self.text[0]

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.text,)


@dataclass(frozen=True, slots=True)
class Maybe:
    """This text, if it is there. blank: with the whitespace behind it."""

    text: str
    blank: bool = False

    def read(self, attempt: Attempt, text: str) -> Outcome:
        if attempt.reader is None:
            outcome = _compare(self.text, text, attempt.at)
            if outcome is not FITS:
                return MORE if outcome is MORE else FITS
            attempt.at += len(self.text)
            if not self.blank:
                return FITS
            attempt.reader = Blank()
        found: Outcome = attempt.reader.read(attempt, text)
        return found

    def beginnings(self) -> str:
        return ""

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.text,)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these texts, none of which begins another. look: it stays to be read."""

    texts: tuple[str, ...]
    look: bool = False

    def read(self, attempt: Attempt, text: str) -> Outcome:
        outcome = FAILS
        for each in self.texts:
            found = _compare(each, text, attempt.at)
            if found is FITS:
                attempt.word = each
                attempt.at += 0 if self.look else len(each)
                return FITS
            outcome = MORE if found is MORE else outcome
        return outcome

    def beginnings(self) -> str:
        return "".join(each[0] for each in self.texts)

    @property
    def spellings(self) -> tuple[str, ...]:
        return self.texts


@dataclass(frozen=True, slots=True)
class Blank:
    """Whitespace, or nothing. lines: line breaks only."""

    lines: bool = False

    def read(self, attempt: Attempt, text: str) -> Outcome:
        begin = attempt.at
        limit = min(len(text), begin + BLANK)
        while attempt.at < limit and (text[attempt.at] == "\n" if self.lines else text[attempt.at].isspace()):
            attempt.at += 1
        if attempt.at < limit:
            return FITS
        if attempt.at - begin == BLANK:
            return FAILS
        attempt.at = begin
        return MORE

    def beginnings(self) -> str:
        return ""

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a declared tool: the longest that is there."""

    def read(self, attempt: Attempt, text: str) -> Outcome:
        rest = text[attempt.at : attempt.at + max(map(len, attempt.names), default=0) + 1]
        if any(len(name) > len(rest) and name.startswith(rest) for name in attempt.names):
            return MORE
        attempt.name = max((name for name in attempt.names if rest.startswith(name)), key=len, default="")
        attempt.at += len(attempt.name)
        return FITS if attempt.name else FAILS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with a name")

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Until:
    """A word up to this text, which is taken too; a key, or an id."""

    text: str
    id: bool = False

    def read(self, attempt: Attempt, text: str) -> Outcome:
        end = text.find(self.text, attempt.at, attempt.at + _WORD + len(self.text))
        if end < 0:
            return FAILS if len(text) - attempt.at >= _WORD + len(self.text) else MORE
        found = text[attempt.at : end]
        if self.id:
            attempt.id = found
        else:
            attempt.key = found
        attempt.at = end + len(self.text)
        return FITS if found else FAILS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with a word")

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.text,)


@dataclass(frozen=True, slots=True)
class Index:
    """Digits, which with the name make the call's id, as in `functions.f:0`."""

    prefix: str

    def read(self, attempt: Attempt, text: str) -> Outcome:
        end = attempt.at
        while end < len(text) and "0" <= text[end] <= "9" and end - attempt.at <= _WORD:
            end += 1
        if end == len(text):
            return MORE
        if not 0 < end - attempt.at <= _WORD:
            return FAILS
        attempt.id = f"{self.prefix}{attempt.name}:{text[attempt.at : end]}"
        attempt.at = end
        return FITS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with an index")

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


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
    """

    name: str = "name"
    arguments: tuple[str, ...] = ("arguments", "parameters")
    id: str = "id"

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
            found = _NOTBLANK.search(text, attempt.at)
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
        begun = text[attempt.at + 1 : attempt.at + _WORD]
        ends = [f'{name}"' for name in attempt.names]
        return text[attempt.at] == '"' and any(end.startswith(begun) or begun.startswith(end) for end in ends)

    def _keep(self, attempt: Attempt, members: _Members, raw: str) -> bool:
        if members.key == self.name:
            attempt.name = raw[1:-1]
            return attempt.name in attempt.names
        if members.key in self.arguments:
            attempt.arguments = unquoted(raw)
            return attempt.arguments is not None
        if members.key == self.id and raw[:1] == '"' and 0 < len(raw) - 2 <= _WORD and "\\" not in raw:
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
            found = _NOTBLANK.search(text, attempt.at)
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


@dataclass(frozen=True, slots=True)
class PythonArguments:
    """`k="v", n=1)`: the rest of a call in Python's syntax, held until it ends."""

    def read(self, attempt: Attempt, text: str) -> Outcome:
        end = text.find(")", attempt.at if attempt.reader is None else attempt.reader)
        while end >= 0 and end - attempt.at < _PYTHON:
            found = _keywords(text[attempt.at : end])
            if found is not None:
                attempt.arguments, attempt.at = found, end + 1
                return FITS
            end = text.find(")", end + 1)
        attempt.reader = len(text)
        return MORE if len(text) - attempt.at < _PYTHON else FAILS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with arguments")

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class BareArguments:
    """`{city:<|"|>Paris<|"|>,days:2}`: JSON with bare keys and its own quotes, held until it ends."""

    quote: str

    def read(self, attempt: Attempt, text: str) -> Outcome:
        at, depth, within = attempt.reader or (attempt.at, 0, False)
        if at == attempt.at and not text.startswith("{", at):
            return FAILS if len(text) > at else MORE
        structure = re.compile(f"{re.escape(self.quote)}|[{{}}\\[\\]]")
        while found := structure.search(text, at):
            at = found.end()
            if found[0] == self.quote:
                within = not within
            elif not within:
                depth += 1 if found[0] in "{[" else -1
                if depth == 0:
                    attempt.arguments = _with_json_quotes(text[attempt.at : at], self.quote)
                    attempt.at = at
                    return FITS if attempt.arguments is not None else FAILS
        at = max(at, len(text) - len(self.quote) + 1)  # a quote may have come in part
        attempt.reader = (at, depth, within)
        return MORE if at - attempt.at < _BARE else FAILS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with arguments")

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.quote,)


def _compare(wanted: str, text: str, at: int) -> Outcome:
    if text.startswith(wanted, at):
        return FITS
    rest = len(text) - at
    return MORE if rest < len(wanted) and wanted.startswith(text[at:]) else FAILS


def _punctuation(attempt: Attempt, members: _Members, text: str) -> Outcome:
    """One brace, comma, colon or key of a JSON object; `members.part` is OPEN again after its end."""
    char = text[attempt.at]
    match members.part, char:
        case _Part.OPEN, "{":
            members.part = _Part.FIRST
        case (_Part.FIRST | _Part.NEXT), "}":
            members.part = _Part.OPEN
        case _Part.NEXT, ",":
            members.part = _Part.KEY
        case _Part.COLON, ":":
            members.part = _Part.VALUE
        case (_Part.FIRST | _Part.KEY), '"':
            found = _STRING.match(text, attempt.at, attempt.at + _WORD + 2)
            if found is None:
                return MORE if len(text) - attempt.at < _WORD + 2 else FAILS
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


def _with_json_quotes(text: str, quote: str) -> str | None:
    """The same in JSON; None if it is none then."""
    parts = text.split(quote)  # what is bare and what is quoted in turn
    plain = [_BARE_KEY.sub(r'"\1"', part) if at % 2 == 0 else json.dumps(part, ensure_ascii=False)
             for at, part in enumerate(parts)]  # fmt: skip
    found = "".join(plain)
    return found if is_object(found) else None


def _keywords(text: str) -> str | None:
    """Keyword arguments with literal values as a JSON object; None if they are not (yet) that."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            return None
        values = {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
        return None if "" in values else json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
