"""What clients saw, and whether they may have seen it. Pure. RELIABILITY.md, promises 1 and 3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.echo_worker import expected

ANY = ""  # a hit on every model
_SLACK = 0.05  # seconds between two clocks' readings of one moment


class Absent(Exception):
    """This machine cannot make the fault; nothing is known then."""


@dataclass(slots=True)
class Entry:
    """One streamed request. Times are monotonic; `first`, `last`: its tokens; `marks`: how it ended, in order.

    `gap`: the longest time between two of its tokens.

    A mark is "done", "error", "left" (the client's own abort), "refused" (an HTTP status other than 200), "closed"
    (without any of those) or "unreachable" (no connection).
    """

    model: str
    prompt: str
    began: float
    first: float | None = None
    last: float | None = None
    gap: float = 0.0
    ended: float | None = None
    text: str = ""
    marks: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None

    def token(self, text: str, now: float) -> None:
        self.text += text
        self.first = self.first or now
        self.gap = max(self.gap, now - (self.last or now))
        self.last = now

    def end(self, mark: str, now: float) -> None:
        self.marks.append(mark)
        self.ended = now


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault, from its beginning until all was well again. `model`: whose streams may end with an error; ANY: all.

    `closes`: connections may end without a word, as when a proxy is killed. `recovery`: seconds until the first token.
    """

    model: str | None
    began: float
    ended: float
    recovery: float
    closes: bool = False

    def excuses(self, entry: Entry) -> bool:
        over = entry.ended is not None and entry.ended < self.began - _SLACK
        return self.model in (entry.model, ANY) and entry.began <= self.ended + _SLACK and not over


def violations(entries: Iterable[Entry], hits: Sequence[Hit]) -> list[str]:
    """A sentence for each thing that must not be."""
    return [f"{_name(entry)}: {text}" for entry in entries for text in _wrong(entry, hits)]


def lost(entries: Iterable[Entry]) -> int:
    """How many ended with something else than what they were sent for."""
    return sum(entry.marks != ["done"] and entry.marks != ["left"] for entry in entries)


def _name(entry: Entry) -> str:
    return f"{entry.model} {entry.prompt.partition('}} ')[2].split(' ')[0]}"


def _wrong(entry: Entry, hits: Sequence[Hit]) -> list[str]:
    found = []
    oracle = "".join(expected(entry.prompt))
    if len(entry.marks) != 1:
        found.append(f"ends {len(entry.marks)} times: {entry.marks}")
    if not oracle.startswith(entry.text):
        found.append(f"text that is not its own: {entry.text[-60:]!r}")
    elif entry.marks == ["done"] and entry.text != oracle:
        found.append(f"done after {len(entry.text)} of {len(oracle)} characters")
    excuses = [hit for hit in hits if hit.excuses(entry)]
    match entry.marks:
        case ["error"] | ["refused"] if not excuses:
            found.append(f"an error without a cause: {entry.error}")
        case ["error"] | ["refused"] if not _well_formed(entry.error):
            found.append(f"not an error object: {entry.error}")
        case ["closed"] if not any(hit.closes for hit in excuses):
            found.append("its connection was closed without a word")
        case ["unreachable"]:
            found.append("no connection could be made")
    return found


def _well_formed(error: dict[str, Any] | None) -> bool:
    return error is not None and bool(error.get("message")) and "code" in error
