"""The configuration file: TOML → Config, with [defaults] merged into each model.

An error names file, table and key, what was expected, what came, and a near miss if there is one.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from supervisor import schema
from supervisor.budget import device
from supervisor.config import Config, ConfigError, Model, Name, Parking, Sections, Server, Sources, Ui, parse_listen
from supervisor.modelfile import below, locate
from supervisor.presetfile import preset_models
from supervisor.schema import Invalid, Missing, convert, near
from supervisor.textfile import EXAMPLE, read_text
from supervisor.variants import based, check_kwargs, variant

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class _File(Sections):
    """The file as it stands: [models] is merged with [defaults] before it is typed."""

    defaults: Model = Model()


_SECTIONS = (*_File.__struct_fields__, "models")
_NOT_SHARED = ("id", "name", "description", "base", "package", "file", "path", "hf", "mmproj", "lora", "aliases")
_MERGED = ("sampling", "force", "chat_template_kwargs")  # tables in a model's, laid over those of [defaults]


def load(file: str | os.PathLike[str]) -> Config:
    """Reads and checks a configuration file, the existence of its model files included. Raises ConfigError."""
    path = Path(file)
    try:
        return build(read(path), path)
    except Invalid as error:
        table, key = _split(error.path)
        plain = table.strip("[]").replace("]] #", " #")
        raise ConfigError(f"{path}: {place(error.path)}: {error.reason}", table=plain, key=key) from None


def read(path: Path) -> dict[str, Any]:
    """The file's tables as they stand. Raises ConfigError."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None


def build(tree: Mapping[str, Any], path: Path) -> Config:
    """A Config from the parsed file. Raises Invalid, whose path leads through the file's tables."""
    for key, value in tree.items():
        if key not in _SECTIONS:
            raise _unknown_section(key, value)
    parts = _sections(tree)
    known = {name: getattr(parts, name) for name in parts.__struct_fields__}
    known["server"], known["ui"] = _server(parts.server, path.parent), _ui(parts.ui, path.parent)
    known["parking"] = _parking(parts.parking, path.parent)
    known["sources"] = sources = _sources(parts.sources, path.parent)
    known["defaults"] = _defaults(parts.defaults, path.parent)
    written = {model.name: model for model in _models(tree, path.parent, required=sources == Sources())}
    _no_duplicate_aliases(written)
    variants = {name: model for name, model in written.items() if model.base}
    models = {name: model for name, model in written.items() if not model.base}
    added, warnings = preset_models(sources, tree.get("defaults", {}), written)
    models |= added
    all_known = not sources.models_dir and not sources.hf_cache  # else the names are not known yet
    bases = {name: based(model, models, written, all_known) for name, model in variants.items()}
    config = Config(file=str(path), models=models, variants=bases, warnings=tuple(warnings), **known)
    if all_known:
        _known_models(config)
    return config


def _known_models(config: Config) -> None:
    for key in ("default_model", "fallback_model"):
        name = getattr(config.admission, key)
        if name and name not in config.names:
            raise Invalid(("admission", key), "a model's name", name, near(name, list(config.names)))


def _unknown_section(key: str, value: object) -> Invalid:
    if not isinstance(value, Mapping):
        tables = [(name, getattr(_File(), name)) for name in _File.__struct_fields__ if name != "keys"]
        homes = ["models.NAME"] if key in _NOT_SHARED else [name for name, table in tables if hasattr(table, key)]
        hint = f"the key belongs into [{homes[0]}]" if homes else ""
        return Invalid((key,), "a table", value, hint)
    return Invalid((key,), "a known table", value, near(key, list(_SECTIONS)))


def _sections(tree: Mapping[str, Any]) -> _File:
    """All but [models], each table by itself correct."""
    if isinstance(tree.get("keys"), Mapping):
        raise Invalid(("keys",), "tables [[keys]]", tree["keys"], "write it with two brackets on each side")
    try:
        parts: _File = convert({key: value for key, value in tree.items() if key != "models"}, _File)
    except Invalid as error:
        if error.path[0] == "keys" and error.path[-1] == "sha256" and isinstance(error.got, str):
            # it may be the key itself, which must not get into a log
            raise Invalid(error.path, error.expected, "…", "printf %s KEY | sha256sum") from None
        raise
    _distinct("keys", "name", [key.name for key in parts.keys])
    _distinct("keys", "sha256", [key.sha256 for key in parts.keys])
    if parts.liveness.pong_timeout <= parts.liveness.ping_interval:
        raise Invalid(("liveness", "pong_timeout"), "more than ping_interval", parts.liveness.pong_timeout)
    if not isinstance(parts.placement.memory, str):
        _distinct_devices(parts.placement.memory)
    if parts.restart.backoff_max < parts.restart.backoff:
        raise Invalid(("restart", "backoff_max"), "at least backoff", parts.restart.backoff_max)
    return parts


def _distinct_devices(memory: Mapping[str, int]) -> None:
    names = {name: device(name) for name in memory}
    for name, same in names.items():
        if list(names.values()).count(same) > 1:
            raise Invalid(("placement", "memory", name), "each device once", memory[name], f"{same} stands twice")


def _distinct(table: str, field: str, values: list[str]) -> None:
    for index, value in enumerate(values):
        if (first := values.index(value)) < index:
            got = value if field == "name" else "…"
            raise Invalid((table, index, field), "one of its own", got, f"[[{table}]] #{first + 1} has the same")


def _server(server: Server, base: Path) -> Server:
    """With absolute socket paths, all addresses well-formed and different."""
    addresses: list[str] = []
    for index, text in enumerate(server.listen):
        where = ("server", "listen", index)
        kind, path, _ = parse_listen(text, where)
        address = f"unix:{below(base, path)}" if kind == "unix" else text
        parse_listen(address, where)  # the absolute path may be too long
        if address in addresses and not text.endswith(":0"):
            raise Invalid(where, "another address", text, "it is in the list twice")
        addresses.append(address)
    for index, text in enumerate(server.forwarded_allow_ips):
        _network(text, ("server", "forwarded_allow_ips", index))
    files = _tls(server, base)
    return msgspec.structs.replace(server, listen=tuple(addresses), root_path=server.root_path.rstrip("/"), **files)


def _tls(server: Server, base: Path) -> dict[str, str]:
    """Absolute paths of certificate and key, where there are any."""
    if not (server.tls_cert or server.tls_key):
        return {}
    for name in ("tls_cert", "tls_key"):
        if not getattr(server, name):
            raise Missing(("server", name), "path", "certificate and key go together")
    files = {"tls_cert": below(base, server.tls_cert), "tls_key": below(base, server.tls_key)}
    from supervisor import tls  # ssl is large, and most servers stand behind one that has it

    tls.check(files["tls_cert"], files["tls_key"])
    return files


def _network(text: str, where: schema.Path) -> None:
    try:
        if text != "*":
            ipaddress.ip_network(text)
    except ValueError:
        raise Invalid(where, 'an address, a network like "10.0.0.0/8", or "*"', text) from None


def _parking(parking: Parking, base: Path) -> Parking:
    """With an absolute folder, where there is one."""
    return msgspec.structs.replace(parking, dir=below(base, parking.dir)) if parking.dir else parking


def _ui(ui: Ui, base: Path) -> Ui:
    """With an absolute path, where there is one."""
    if not ui.path:
        return ui
    path = below(base, ui.path)
    if not os.path.isfile(os.path.join(path, "index.html")):
        raise Invalid(("ui", "path"), "a folder with an index.html", ui.path, f"there is none in {path}")
    return msgspec.structs.replace(ui, path=path)


def _sources(sources: Sources, base: Path) -> Sources:
    """With absolute paths that lead to something."""
    found = {"models_dir": "", "presets": ""}
    for key, exists, what in (("models_dir", os.path.isdir, "folder"), ("presets", os.path.isfile, "file")):
        if text := getattr(sources, key):
            found[key] = below(base, text)
            if not exists(found[key]):
                raise Invalid(("sources", key), f"an existing {what}", text, f"there is none at {found[key]}")
    return msgspec.structs.replace(sources, **found)


def _defaults(defaults: Model, base: Path) -> Model:
    """With an absolute path of the template. That it exists is checked with the models that use it."""
    check_kwargs(defaults.chat_template_kwargs, ("defaults", "chat_template_kwargs"))
    template = below(base, defaults.chat_template) if defaults.chat_template else ""
    return msgspec.structs.replace(defaults, chat_template=template)


def _models(tree: Mapping[str, Any], base: Path, required: bool) -> Iterator[Model]:
    tables = tree.get("models", {})
    if not isinstance(tables, Mapping):
        raise Invalid(("models",), "tables [models.NAME]", tables)
    if not tables and required:
        raise Missing(("models",), "at least one table [models.NAME]", EXAMPLE)
    defaults = tree.get("defaults", {})
    for key in _NOT_SHARED:
        if key in defaults:
            raise Invalid(("defaults", key), "a key that models can share", defaults[key], "write it in [models.NAME]")
    for name, table in tables.items():
        where = ("models", name)
        convert(name, Name, path=where)
        if not isinstance(table, Mapping):
            raise _not_a_model(where, name, table)
        if "id" in table:
            raise Invalid((*where, "id"), "a known key", table["id"], "the name in [models.NAME] is the model's id")
        own = convert(table, Model, path=where)  # by itself, so that an error in [defaults.sampling] is not laid on it
        check_kwargs(own.chat_template_kwargs, (*where, "chat_template_kwargs"))
        if own.base:
            yield variant(table, msgspec.structs.replace(own, name=name), where)
            continue
        merged = {key: {**defaults.get(key, {}), **table.get(key, {})} for key in _MERGED}
        model = convert({**defaults, **table, **merged}, Model, path=where)
        yield locate(msgspec.structs.replace(model, name=name), base, where, own_template="chat_template" in table)


def _not_a_model(where: tuple[str, ...], name: str, value: object) -> Invalid:
    if name in Model.__struct_fields__:
        return Invalid(where, "a table [models.NAME]", value, "the key belongs into [defaults] or [models.NAME]")
    return Invalid(where, "table", value)


def _no_duplicate_aliases(models: Mapping[str, Model]) -> None:
    owner = {name: name for name in models}
    for name, model in models.items():
        for index, alias in enumerate(model.aliases):
            if alias in owner:
                hint = f"{place(('models', owner[alias]))} has it already"
                raise Invalid(("models", name, "aliases", index), "a name of its own", alias, hint)
            owner[alias] = name


def place(path: schema.Path) -> str:
    """A path in the file's own spelling: `[models.qwen3].n_ctx`, `[[keys]] #2.sha256`, `[server].listen[0]`."""
    table, key = _split(path)
    return f"{table}.{key}" if key else table


def _split(path: schema.Path) -> tuple[str, str]:
    """A path's table, with its brackets, and the key in it."""
    depth = 2 if path[0] == "models" and len(path) > 1 else 1
    if path[0] == "keys" and len(path) > 1 and isinstance(path[1], int):
        return f"[[keys]] #{path[1] + 1}", schema.dotted(path[2:])
    return f"[{'.'.join(_quoted(str(part)) for part in path[:depth])}]", schema.dotted(path[depth:])


def _quoted(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
