"""When a model that nobody uses goes: after its configured time, or the time that a client last asked for. Pure.

API.md, 1.8: what a client says (`keep_alive`, `ttl`) holds until the model is unloaded. A pinned model ignores both.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.config import Model

FOR_EVER = -1.0


class Idle:
    """Times in seconds; `longest` is the most that a client may ask for, 0 = no limit. `settings` knows each model."""

    def __init__(self, settings: Callable[[str], Model], longest: float) -> None:
        self._settings, self._longest = settings, longest
        self._said: dict[str, float] = {}

    def limit(self, longest: float) -> None:
        """Another most that a client may ask for, from now on."""
        self._longest = longest

    def say(self, model: str, seconds: float) -> bool:
        """A client wants it kept so long, negative = for ever. Whether that changes anything."""
        before = self.timeout(model)
        if self._longest and not 0 <= seconds <= self._longest:
            seconds = self._longest
        self._said[model] = seconds
        return self.timeout(model) != before

    def forget(self, model: str) -> None:
        """It was unloaded."""
        self._said.pop(model, None)

    def timeout(self, model: str) -> float:
        """How long it may idle; FOR_EVER: as long as its place is not needed."""
        settings = self._settings(model)
        if settings.pin:
            return FOR_EVER
        if (said := self._said.get(model)) is not None:
            return said if said >= 0 else FOR_EVER
        return settings.idle_timeout or FOR_EVER

    def due(self, model: str, last_used: float) -> float | None:
        """When it goes, if it is not used again; None: never."""
        timeout = self.timeout(model)
        return None if timeout == FOR_EVER else last_used + timeout
