"""[sources].presets: the models of an INI file, beside those of the configuration, which count where both have one."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from supervisor import presets, schema
from supervisor.config import ConfigError, Model, Name, Sources
from supervisor.modelfile import below
from supervisor.schema import Invalid, convert
from supervisor.textfile import read_text


def preset_models(
    sources: Sources, defaults: Mapping[str, Any], models: Mapping[str, Model]
) -> tuple[dict[str, Model], list[str]]:
    """The models of the INI file that [models] does not have, and warnings. Raises Invalid, ConfigError."""
    if not sources.presets:
        return {}, []
    file = Path(sources.presets)
    try:
        tables, warnings = presets.read(read_text(file))
        found = {name: _preset(name, table, defaults, file) for name, table in tables.items()}
    except configparser.Error as error:
        raise ConfigError(f"{file}: no INI file: {' '.join(str(error).split())}") from None
    except Invalid as error:
        raise ConfigError(f"{file}: [{error.path[0]}].{schema.dotted(error.path[1:])}: {error.reason}") from None
    taken = {word: model.name for model in models.values() for word in (model.name, *model.aliases)}
    for name in [name for name in found if name in taken]:
        del found[name]
        warnings.append(f"[{name}]: the configuration has a model of this name, which counts")
    return _without_taken_aliases(found, taken, warnings), [f"{file}: {warning}" for warning in warnings]


def _preset(name: str, table: dict[str, Any], defaults: Mapping[str, Any], file: Path) -> Model:
    convert(name, Name, path=(name, "name"))
    sampling = {**defaults.get("sampling", {}), **table["sampling"]}
    model: Model = convert({**defaults, **table, "sampling": sampling}, Model, path=(name,))
    paths = {
        key: below(file.parent, text) for key in ("path", "mmproj", "chat_template") if (text := getattr(model, key))
    }
    if not model.path and not model.hf and "/" in name:
        paths["hf"] = name
    lora = tuple(
        msgspec.structs.replace(each, path=below(file.parent, each.path)) for each in model.adapters
    )  # fmt: skip
    return msgspec.structs.replace(model, name=name, lora=lora, **paths)


def _without_taken_aliases(found: dict[str, Model], taken: dict[str, str], warnings: list[str]) -> dict[str, Model]:
    """Each word leads to one model: the first that has it."""
    taken.update({name: name for name in found})
    for name, model in found.items():
        free = [alias for alias in model.aliases if taken.setdefault(alias, name) == name and alias != name]
        warnings += [f"[{name}].alias: {alias} is taken already" for alias in model.aliases if alias not in free]
        found[name] = msgspec.structs.replace(model, aliases=tuple(free))
    return found
