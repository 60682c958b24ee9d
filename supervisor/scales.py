"""Scales of LoRA adapters that an operator has set, in place of the configured ones: POST /lora-adapters.

They hold for all replicas and for every load to come, until the server ends or the model is configured with other
adapters or scales.
"""

from __future__ import annotations

import msgspec

from supervisor.config import Adapter, Model


class Scales:
    """Of all models."""

    def __init__(self) -> None:
        self._set: dict[str, tuple[tuple[Adapter, ...], tuple[float, ...]]] = {}  # with what they were set in place of

    def set(self, model: Model, scales: dict[int, float]) -> None:
        """By the adapters' ids; those that are not named count 0."""
        known = model.adapters
        self._set[model.name] = known, tuple(scales.get(id, 0.0) for id in range(len(known)))

    def of(self, model: Model, name: str = "") -> tuple[float, ...]:
        """Those that count now, in the order of Model.lora. `name`: of the model of which this one is a replica."""
        known, scales = self._set.get(name or model.name, ((), ()))
        return scales if known and known == model.adapters else tuple(each.scale for each in model.adapters)

    def applied(self, model: Model, name: str = "") -> Model:
        """The model with those in place of the configured ones."""
        pairs = zip(model.adapters, self.of(model, name), strict=True)
        return msgspec.structs.replace(model, lora=tuple(Adapter(path=each.path, scale=scale) for each, scale in pairs))
