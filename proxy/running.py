"""Completions in flight that their client may still speak to, by the id that the answer shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.calls import Call
from proxy.context import Context


@dataclass(frozen=True)
class Held:
    call: Call
    owner: str  # the name of the key that it was begun with, "" without keys


class Running:
    """Bounded by the requests in flight."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    @contextmanager
    def hold(self, id: str, call: Call, who: Context) -> Iterator[None]:
        """While it lasts, `id` is known."""
        self._held[id] = Held(call, who.owner)
        try:
            yield
        finally:
            del self._held[id]

    def find(self, id: str, who: Context) -> Call | None:
        """The call, if it is this client's own; an admin has all."""
        held = self._held.get(id)
        return held.call if held and (who.admin or held.owner == who.owner) else None
