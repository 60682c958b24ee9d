"""Settings of one load, in place of the configured ones: for which load they hold, and what it needs with them.

An operator asks for them with POST /models/load; the proxy has checked them: proxy/dialects/overrides.py. They hold
until the model is unloaded; a crash is no unload.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.card import Card
from supervisor.control import Entry
from supervisor.estimate import estimate

Settings = dict[str, Any]


class Overrides:
    """Of all models. Those that were asked for wait for the next load; those that hold end with an unload."""

    def __init__(self) -> None:
        self._waiting: dict[str, Settings] = {}
        self._holding: dict[str, Settings] = {}
        self._made: dict[str, tuple[Entry, Settings, int, Entry]] = {}

    def of(self, model: str) -> Settings:
        """Those of the model as it is, or is to be loaded next."""
        return self._waiting.get(model) or self._holding.get(model, {})

    def ask(self, model: str, settings: Settings) -> None:
        """The next load is to have these."""
        self._waiting[model] = settings

    def begin(self, model: str) -> None:
        """It is being loaded with them."""
        if model in self._waiting:
            self._holding[model] = self._waiting.pop(model)

    def unloaded(self, model: str) -> None:
        """What it was loaded with holds no more."""
        self._holding.pop(model, None)

    def forget(self, model: str) -> None:
        """Nor does what was asked for."""
        self._waiting.pop(model, None)

    def entry(self, entry: Entry, gpus: int) -> Entry:
        """The model as it is loaded: its settings, and what it should take of memory with them."""
        name = entry.model.name
        if not (settings := self.of(name)):
            self._made.pop(name, None)
            return entry
        known = self._made.get(name)
        if known is None or known[0] is not entry or known[1:3] != (settings, gpus):
            known = self._made[name] = (entry, settings, gpus, _made(entry, settings, gpus))
        return known[3]

    def template(self, model: str) -> str:
        """The text of a chat template, "" for the configured one."""
        return str(self.of(model).get("chat_template", ""))


def _made(entry: Entry, settings: Settings, gpus: int) -> Entry:
    said = {key: value for key, value in settings.items() if key != "chat_template"}
    model = msgspec.structs.replace(entry.model, **said)
    needs = estimate(entry.card or Card(), model, gpus).devices
    return msgspec.structs.replace(entry, model=model, estimated=needs, memory=None)
