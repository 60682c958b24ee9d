"""Pure: what becomes of the models that run, when the catalog is another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from supervisor.config import Model, Sampling
from supervisor.control import Entry


@dataclass(frozen=True, slots=True)
class Change:
    """Names. `reload`: what it is loaded with has changed; `repaired`: its file is another one now.

    `shown`: it looks different to those who list models, apart from the memory it takes.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    reload: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def change(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> Change:
    """From one catalog to the next. A model that is `added` or `changed` has to be told to the proxies."""
    both = [(name, before[name], entry) for name, entry in after.items() if name in before]
    return Change(
        added=[name for name in after if name not in before],
        changed=[name for name, old, new in both if old is not new and old != new],
        reload=[name for name, old, new in both if _loaded_with(old.model) != _loaded_with(new.model)],
        repaired=[name for name, old, new in both if _file(old) != _file(new) and old.card is not None],
        gone=[name for name in before if name not in after],
        shown=[
            name for name, old, new in both if (old.model, old.source, old.card) != (new.model, new.source, new.card)
        ],
    )


_ELSEWHERE = {
    "title": "", "description": "", "tags": (), "hidden": False, "aliases": (), "preload": False, "pin": False,
    "idle_timeout": 0.0, "min_resident": 0.0, "priority": 0, "group": "", "replicas": 1, "chat_template_kwargs": {},
    "system_prompt": "", "system_prompt_mode": "missing", "force": Sampling(),
}  # fmt: skip


def _loaded_with(model: Model) -> Model:
    """Without what a worker does not care for."""
    return msgspec.structs.replace(model, **_ELSEWHERE)


def _file(entry: Entry) -> tuple[str, int, int, str]:
    card = entry.card
    return (entry.model.path, card.modified, card.file_size, card.problem) if card else (entry.model.path, 0, 0, "")
