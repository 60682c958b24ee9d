"""Drains under way: for each model, the proxies whose answer is still awaited."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Drain:
    """`evicting`: for the sake of another model, so that it can be withdrawn."""

    awaited: set[Hashable]
    evicting: bool


class Drains:
    def __init__(self) -> None:
        self._of: dict[str, Drain] = {}

    def begin(self, model: str, proxies: Iterable[Hashable], evicting: bool) -> bool:
        """True if nobody need be awaited."""
        self._of[model] = Drain(set(proxies), evicting)
        return not self._of[model].awaited

    def answered(self, model: str, proxy: Hashable) -> bool:
        """A proxy has nothing in flight, or is gone. True if it was the last one awaited."""
        drain = self._of.get(model)
        if drain is None or proxy not in drain.awaited:
            return False
        drain.awaited.discard(proxy)
        return not drain.awaited

    def end(self, model: str) -> None:
        self._of.pop(model, None)

    def evicting(self, model: str) -> bool:
        return model in self._of and self._of[model].evicting

    def awaiting(self, proxy: Hashable) -> list[str]:
        return [model for model, drain in self._of.items() if proxy in drain.awaited]
