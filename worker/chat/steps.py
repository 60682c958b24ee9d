"""Matching a marker with what must follow it, while the text still grows. Pure.

A rule is a row of steps. An attempt walks it over text that begins where the marker may begin; each call goes on where
the last one stood, so a token costs what it adds. Every step has a bound on the whitespace and words it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

WORD = 64  # characters of an id or a key
BLANK = 64  # whitespace between two parts of a marker


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
        "arguments", "at", "closed", "id", "key", "marks", "name", "names", "outcome", "reader", "step", "steps",
        "word",
    )  # fmt: skip

    def __init__(self, steps: Sequence[Step], names: Sequence[str] = (), *, closed: bool = True) -> None:
        """`names` are the declared tools; `closed`: no JSON object around the last arguments is open."""
        self.steps, self.names, self.closed = steps, names, closed
        self.at = self.step = 0
        self.outcome = MORE
        self.marks: list[int] = []  # where each of the steps that were read ended
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
            self.marks.append(self.at)
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
        end = text.find(self.text, attempt.at, attempt.at + WORD + len(self.text))
        if end < 0:
            return FAILS if len(text) - attempt.at >= WORD + len(self.text) else MORE
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
        while end < len(text) and "0" <= text[end] <= "9" and end - attempt.at <= WORD:
            end += 1
        if end == len(text):
            return MORE
        if not 0 < end - attempt.at <= WORD:
            return FAILS
        attempt.id = f"{self.prefix}{attempt.name}:{text[attempt.at : end]}"
        attempt.at = end
        return FITS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with an index")

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


def _compare(wanted: str, text: str, at: int) -> Outcome:
    if text.startswith(wanted, at):
        return FITS
    rest = len(text) - at
    return MORE if rest < len(wanted) and wanted.startswith(text[at:]) else FAILS
