"""How long the stages of a load took, for the log."""

from __future__ import annotations

import logging
import time

from supervisor.log import facts

_log = logging.getLogger(__name__)


class Stages:
    """Seconds between one `done` and the next, by the name of what was done."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds: dict[str, float] = {}

    def done(self, name: str) -> None:
        now = time.monotonic()
        self._seconds[name], self._last = now - self._last, now

    def tell(self) -> None:
        """One line in this process's log; on stderr at level debug only."""
        _log.info("load took %s", facts(**self._seconds), extra={"ring_only": True})
