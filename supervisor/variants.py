"""Checks [models.NAME] with a `base`: a variant, which is another name for a model, with its own way to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supervisor import schema
from supervisor.config import VARIANT_KEYS, Model
from supervisor.schema import Invalid, near

_KEYS = tuple("name" if key == "title" else key for key in VARIANT_KEYS)  # as the file spells them
_JSON = "what JSON can say"


def variant(table: Mapping[str, Any], model: Model, where: schema.Path) -> Model:
    """The model of a table that has a `base`, and says nothing that belongs to a load. Raises Invalid."""
    for key, value in table.items():
        if key not in _KEYS:
            hint = f'it shares one load with "{model.base}", in whose table the key belongs'
            raise Invalid((*where, key), 'no such key beside "base"', value, hint)
    return model


def based(model: Model, models: Mapping[str, Model], written: Mapping[str, Model], all_known: bool) -> Model:
    """The variant, its `base` as an id. `all_known`: no model can be found elsewhere. Raises Invalid."""
    where = ("models", model.name, "base")
    ids = {alias: known.name for known in (*models.values(), *written.values()) for alias in known.aliases}
    base = ids.get(model.base, model.base)
    if base == model.name or (base in written and written[base].base):
        raise Invalid(where, "a model that has no base itself", model.base, f'"{base}" is a variant too')
    if base not in models and all_known:
        raise Invalid(where, "a model's name", model.base, near(model.base, list(models)))
    return msgspec.structs.replace(model, base=base)


def check_kwargs(kwargs: Mapping[str, Any], where: schema.Path) -> None:
    """Raises Invalid unless a template can be given this: as JSON, in which a request would say it."""
    thinking = kwargs.get("enable_thinking")
    if thinking is not None and not isinstance(thinking, bool):
        raise Invalid((*where, "enable_thinking"), "true or false", thinking)
    for key, value in kwargs.items():
        _check(value, (*where, key))


def _check(value: Any, where: schema.Path) -> None:
    match value:
        case Mapping():
            for key, item in value.items():
                _check(item, (*where, key))
        case list():
            for index, item in enumerate(value):
                _check(item, (*where, index))
        case str() | bool() | float():
            pass
        case int() if -(2**63) <= value < 2**63:
            pass
        case _:
            raise Invalid(where, _JSON, value)
