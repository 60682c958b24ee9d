"""The sequence places as others may see them: the engine notes who comes and goes, the I/O thread looks.

Nothing is done per step, and nobody waits: what the I/O thread reads of a reply that runs are single numbers.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from worker.protocol import Place


class Occupant(Protocol):
    """What runs at a place."""

    def place(self) -> Place:
        """Itself as others see it, without the number of its task and the context's size; -1 if it has no place now."""


class Places:
    """One row for each place of a context; those that never had a task are only numbers."""

    def __init__(self) -> None:
        self._count = self._n_ctx = self._tasks = 0
        self._live: tuple[tuple[int, Occupant], ...] = ()  # replaced, never changed: another thread reads it
        self._last: dict[int, Place] = {}

    # -- the engine ------------------------------------------------------------------------------------------------

    def open(self, count: int, n_ctx: int) -> None:
        """There are so many places, of so many tokens each."""
        self._count, self._n_ctx = count, n_ctx

    def enter(self, occupant: Occupant) -> None:
        """A task begins."""
        self._tasks += 1
        self._live = (*self._live, (self._tasks, occupant))

    def leave(self, occupant: Occupant) -> None:
        """It is over; its last figures stay until the place has another."""
        for task, live in self._live:
            if live is occupant:
                place = self._shown(task, live)
                if place.id >= 0:
                    self._last[place.id] = replace(place, busy=False, remain=0)
        self._live = tuple(entry for entry in self._live if entry[1] is not occupant)

    # -- the I/O thread ----------------------------------------------------------------------------------------------

    def show(self) -> list[Place]:
        """The row of every place, in their order."""
        live = {place.id: place for place in (self._shown(*entry) for entry in self._live)}
        last = self._last
        return [live.get(id) or last.get(id) or Place(id, self._n_ctx) for id in range(self._count)]

    def _shown(self, task: int, occupant: Occupant) -> Place:
        return replace(occupant.place(), n_ctx=self._n_ctx, task=task)
