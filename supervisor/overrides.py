"""Settings of one load, in place of the configured ones: which there may be, and for which load they hold.

An operator asks for them with POST /models/load. They hold until the model is unloaded; a crash is no unload.
"""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from supervisor import schema
from supervisor.card import Card
from supervisor.config import Model
from supervisor.control import Entry
from supervisor.estimate import estimate
from supervisor.schema import Invalid, convert, near

# What a load is made with, and names no file: over HTTP nobody says which files are opened.
KEYS = (
    "n_ctx", "n_gpu_layers", "parallel", "threads", "n_batch", "n_ubatch", "prefill_time", "flash_attention", "kv",
    "kv_cells", "swa_full", "mmap", "mlock", "chat_template",
)  # fmt: skip
_TYPES = get_type_hints(Model, include_extras=True)
Settings = dict[str, Any]


def check(said: object, path: schema.Path = ("overrides",)) -> Settings:
    """Overrides as a client says them, checked; null counts as absent. Raises Invalid that leads to the place."""
    if not isinstance(said, dict):
        raise Invalid(path, "table", said)
    found: Settings = {}
    for key, value in said.items():
        if key not in KEYS:
            raise Invalid((*path, key), f"one of {', '.join(KEYS)}", value, near(str(key), list(KEYS)))
        if value is not None:
            found[key] = convert(value, _TYPES[key], path=(*path, key))
    return found


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
