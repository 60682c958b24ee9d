"""One deadline of a client's at a time: set anew, or not running."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_AMNESTY = 0.5  # seconds: later than that, this process was held up, and what the client sent may be here unread


class Deadline:
    """`late` is called once a time that was set is over."""

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = self._due = 0.0

    def set(self, seconds: float) -> None:
        """From now on, whatever was set before."""
        self.clear()
        self._seconds, self._due = seconds, self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._over)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def runs(self) -> bool:
        return self._timer is not None

    def _over(self) -> None:
        self._timer = None
        if self._loop.time() > self._due + _AMNESTY:
            self.set(self._seconds)
        else:
            self._late()
