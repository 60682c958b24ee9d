"""The line of requests that wait for a sequence: whose turn it is, and who may pass whom. Pure. ENGINE.md, 4.

Order: priority, which rises with waiting; who was interrupted; the owner who has been served least; arrival. Who does
not fit yet may be passed by those that do, a few times or for a few seconds; then nobody begins before him.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Work = TypeVar("Work")
AGING = 5.0  # seconds of waiting that raise a request by one level of priority
_PASSES, _PATIENCE = 8, 5.0  # so often, or so many seconds, the first may be passed
_LOOK = 32  # so many are looked at in one step


@dataclass(slots=True, eq=False)
class Entry(Generic[Work]):
    """What waits, for whom, since when. `interrupted`: it ran before; `blocked`: since when it is first and unfit."""

    work: Work
    owner: str
    priority: int
    arrived: float
    number: int
    interrupted: bool = False
    passed: int = 0
    blocked: float = 0.0

    def may_be_passed(self, now: float) -> bool:
        return self.passed < _PASSES and now - self.blocked < _PATIENCE


class Line(Generic[Work]):
    """All entries, and what each owner has been served."""

    def __init__(self) -> None:
        self._entries: dict[Work, Entry[Work]] = {}
        self._served: dict[str, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Work]:
        return iter(list(self._entries))

    def add(self, work: Work, owner: str, priority: int, now: float, *, interrupted: bool = False) -> None:
        self._count += 1
        if owner not in self._served:  # as if he had been here: neither a debt nor a claim from before
            self._served[owner] = min((self._served[other] for other in self._owners), default=0.0)
        self._entries[work] = Entry(work, owner, priority, now, self._count, interrupted)

    def remove(self, work: Work) -> None:
        del self._entries[work]

    def replace(self, work: Work, other: Work) -> None:
        """The same place in the line for what is left of a request."""
        entry = self._entries.pop(work)
        entry.work = other
        self._entries[other] = entry

    def serve(self, owner: str, tokens: int) -> None:
        """Tokens were computed for this owner."""
        if owner in self._served:
            self._served[owner] += tokens

    def forget(self, owners: set[str]) -> None:
        """Owners who neither wait nor are among these, who run, need no account."""
        for owner in set(self._served) - self._owners - owners:
            del self._served[owner]

    def served(self, owner: str) -> float:
        return self._served.get(owner, 0.0)

    def first(self, now: float) -> list[Entry[Work]]:
        """The next to be served, the first one first."""
        if len(self._entries) == 1:
            return list(self._entries.values())
        return heapq.nsmallest(_LOOK, self._entries.values(), key=lambda entry: self._rank(entry, now))

    @property
    def _owners(self) -> set[str]:
        return {entry.owner for entry in self._entries.values()}

    def _rank(self, entry: Entry[Work], now: float) -> tuple[int, bool, float, int]:
        level = entry.priority + int((now - entry.arrived) / AGING)
        return -level, not entry.interrupted, self._served[entry.owner], entry.number
