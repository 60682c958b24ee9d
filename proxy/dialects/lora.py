"""GET and POST /lora-adapters: the LoRA adapters of a model, and how much each counts. API.md, 7.2."""

from __future__ import annotations

import os
from typing import Any

from proxy.dialects.fields import MAX_SCALES, Scale, bad, typed
from supervisor.card import Adapter
from supervisor.config import Model
from supervisor.control import Entry, ModelStatus


def rows(entry: Entry, status: ModelStatus, *, admin: bool) -> list[dict[str, Any]]:
    """One for each adapter, loaded or not. Only admins see whole paths."""
    told = entry.card.adapters if entry.card else ()
    found = []
    for id, (adapter, scale) in enumerate(zip(entry.model.adapters, current(entry.model, status), strict=True)):
        says = told[id] if id < len(told) else Adapter()
        found.append(
            {
                "id": id,
                "path": adapter.path if admin else os.path.basename(adapter.path),
                "scale": scale,
                "task_name": says.task,
                "prompt_prefix": says.prefix,
            }
        )
    return found


def current(model: Model, status: ModelStatus) -> tuple[float, ...]:
    """What requests are computed with that do not say: as set last, or configured."""
    configured = tuple(each.scale for each in model.adapters)
    return status.lora if len(status.lora) == len(configured) else configured  # else it is of an older configuration


def parse(body: list[Any], model: Model) -> list[tuple[int, float]]:
    """Ids and scales of the model's adapters; those that are not named will count 0. Raises BadRequest."""
    if len(body) > MAX_SCALES:
        raise bad((), f"at most {MAX_SCALES} entries", len(body))
    found = [typed(each, Scale, (index,)) for index, each in enumerate(body)]
    for index, each in enumerate(found):
        if each.id >= len(model.adapters):
            raise bad((index, "id"), _ids(len(model.adapters)), each.id)
    return [(each.id, each.scale) for each in found]


def _ids(count: int) -> str:
    return f"the id of an adapter, 0 to {count - 1}" if count else "nothing, as the model has no adapters"
