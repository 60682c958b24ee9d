"""Who waits for which model, and since when. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from supervisor.placement import Wanted


@dataclass(slots=True)
class Want:
    """One model's waiters: proxies with requests, an order (/models/load), or the background (preload, restart)."""

    since: float
    proxies: dict[Hashable, int] = field(default_factory=dict)  # with the highest priority of those who wait there
    ordered: bool = False
    background: bool = False

    @property
    def needed(self) -> bool:
        return bool(self.proxies) or self.ordered or self.background

    @property
    def evicts(self) -> bool:
        """A preload, or a restart after a crash, makes nobody else go."""
        return bool(self.proxies) or self.ordered

    @property
    def priority(self) -> int:
        return max(self.proxies.values(), default=0)


class Wants:
    """All wants, in the order of each model's first waiter."""

    def __init__(self) -> None:
        self._of: dict[str, Want] = {}

    def __contains__(self, model: str) -> bool:
        return model in self._of

    def get(self, model: str) -> Want | None:
        return self._of.get(model)

    def add(self, model: str, now: float) -> Want:
        """The want of this model, a new one if there is none; the caller says who waits."""
        return self._of.setdefault(model, Want(now))

    def drop(self, model: str) -> None:
        self._of.pop(model, None)

    def leave(self, model: str, proxy: Hashable) -> bool:
        """A proxy's last waiter left. True if nobody waits any more; the want is gone then."""
        want = self._of.get(model)
        if want is None:
            return False
        want.proxies.pop(proxy, None)
        if not want.needed:
            del self._of[model]
        return not want.needed

    def clear(self) -> None:
        self._of.clear()

    def of_proxy(self, proxy: Hashable) -> list[str]:
        return [model for model, want in self._of.items() if proxy in want.proxies]

    def background(self) -> list[str]:
        """Models that nobody asks for at this moment."""
        return [model for model, want in self._of.items() if not want.evicts]

    def in_order(self) -> list[Wanted]:
        """For placement."""
        return [Wanted(model, want.since, want.evicts, want.priority) for model, want in self._of.items()]
