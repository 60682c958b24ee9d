"""The configuration file: TOML → a frozen, typed Config.

Every key has a default. An error names file, table and key, what was expected, what came, and a near miss if there is
one. Relative paths are relative to the file. Sources: ARCHITECTURE ("Configuration"), `conf/models.example.toml`.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from supervisor.schema import Duration, Invalid, Size, convert, dotted, near

EX_CONFIG = 78  # sysexits.h; systemd does not restart on it

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$")]
Entry = Annotated[str, Meta(pattern=r"^[\w.]+:\w+$", description='like "package.module:function"')]
KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class ConfigError(Exception):
    """The configuration is wrong; the text names the file, the place and the way out."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file; immutable once read."""


class Sampling(Table, omit_defaults=True):
    """Sampling parameters; None = not said here, so the next source decides: request > model > GGUF > llama.cpp."""

    temperature: Annotated[float, Meta(ge=0, le=1000)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-1, le=2**32 - 1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=1000)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-1000, le=1000)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-1000, le=1000)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    max_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None

    def over(self, base: Sampling) -> Sampling:
        """These parameters where they are set, else those of `base`."""
        pairs = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return Sampling(**{name: getattr(base, name) if value is None else value for name, value in pairs})


class Server(Table):
    """[server]: where and how the proxies listen."""

    listen: Annotated[tuple[str, ...], Meta(min_length=1)] = ("127.0.0.1:8080",)
    proxies: Annotated[int, Meta(ge=1, le=64)] = 1
    max_body: Size = 64 * 2**20
    body_timeout: Duration = 60.0
    max_connections: Annotated[int, Meta(ge=1)] = 16384
    cors_origins: tuple[str, ...] | Literal["localhost", "*"] = "localhost"
    allowed_hosts: tuple[str, ...] = ()
    sse_ping_interval: Duration = 15.0
    stream_hold: Duration = 20.0
    stream_backlog: Size = 2**20
    stream_backlog_timeout: Duration = 30.0
    proxy: Entry = "proxy.main:main"


class Key(Table):
    """[[keys]]: an API key, stored as the SHA-256 of its text. `models` are shell globs over model names."""

    name: Annotated[str, Meta(min_length=1)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="of 64 hexadecimal digits")]
    models: tuple[str, ...] = ("*",)
    admin: bool = False

    def sees(self, model: str) -> bool:
        """Whether this key may see and use the model."""
        return any(fnmatch.fnmatchcase(model, glob) for glob in self.models)


class Admission(Table):
    """[admission]: what happens to a request whose model is not ready."""

    autoload: bool = True
    default_model: str = ""
    max_queue: Annotated[int, Meta(ge=1)] = 256
    max_wait: Duration = 10.0
    queue_timeout: Duration = 600.0
    restart_hold: Duration = 5.0


class Placement(Table):
    """[placement]: what may be in memory at once."""

    max_models: Annotated[int, Meta(ge=0)] = 4


class Liveness(Table):
    """[liveness]: when silence is a hang. RELIABILITY.md, 5."""

    ping_interval: Duration = 1.0
    pong_timeout: Duration = 10.0
    suspended_timeout: Duration = 300.0
    boot_timeout: Duration = 60.0
    load_timeout: Duration = 120.0
    first_step_timeout: Duration = 300.0
    step_timeout: Duration = 60.0
    lease: Duration = 60.0


class Restart(Table):
    """[restart]: how a child that died comes back. RELIABILITY.md, 6."""

    backoff: Duration = 0.5
    backoff_max: Duration = 30.0
    jitter: Annotated[float, Meta(ge=0, le=0.9)] = 0.2
    stable_after: Duration = 60.0
    max_deaths: Annotated[int, Meta(ge=0)] = 5
    window: Duration = 300.0


class Shutdown(Table):
    """[shutdown]: the deadlines of a stop, in the order in which they run. RELIABILITY.md, 7."""

    drain_timeout: Duration = 30.0
    stop_timeout: Duration = 10.0
    term_timeout: Duration = 3.0
    kill_timeout: Duration = 10.0


class Log(Table):
    """[log]: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Model(Table):
    """A model: [defaults] and [models.NAME], merged."""

    name: str = ""
    package: str = ""
    file: str = ""
    path: str = ""
    aliases: tuple[Name, ...] = ()
    preload: bool = False
    pin: bool = False
    n_ctx: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 4096
    parallel: Annotated[int, Meta(ge=1, le=200)] = 4
    n_gpu_layers: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1
    threads: Annotated[int, Meta(ge=0, le=512)] = 0
    n_batch: Annotated[int, Meta(ge=32, le=65536)] = 2048
    n_ubatch: Annotated[int, Meta(ge=32, le=65536)] = 512
    prefill_time: Duration = 0.25
    flash_attention: Literal["auto", "on", "off"] = "auto"
    kv: KvType = "f16"
    mmap: bool = True
    mlock: bool = False
    chat_template: str = ""
    worker: Entry = "worker.main:main"
    sampling: Sampling = Sampling()


class Config(Table):
    """Everything the file says, checked."""

    file: str
    models: dict[str, Model]
    server: Server = Server()
    keys: tuple[Key, ...] = ()
    admission: Admission = Admission()
    placement: Placement = Placement()
    liveness: Liveness = Liveness()
    restart: Restart = Restart()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()

    @property
    def names(self) -> dict[str, str]:
        """Every id and alias → the id of its model."""
        pairs = ((word, model.name) for model in self.models.values() for word in (*model.aliases, model.name))
        return dict(pairs)


class _File(Table):
    """The file as it stands: [models] is merged with [defaults] before it is typed."""

    server: Server = Server()
    keys: tuple[Key, ...] = ()
    admission: Admission = Admission()
    placement: Placement = Placement()
    liveness: Liveness = Liveness()
    restart: Restart = Restart()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()
    defaults: Model = Model()


_SECTIONS = {**dict.fromkeys(_File.__struct_fields__), "models": None}
_MODEL_ONLY = ("package", "file", "path", "aliases")


def load(file: str | os.PathLike[str]) -> Config:
    """Reads and checks a configuration file, the existence of its model files included. Raises ConfigError."""
    path = Path(file)
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; conf/models.example.toml shows what it may contain") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    try:
        return build(tree, path)
    except Invalid as error:
        raise ConfigError(f"{path}: {_place(error)}") from None


def build(tree: Mapping[str, Any], path: Path) -> Config:
    """A Config from the parsed file. Raises Invalid, whose path leads through the file's tables."""
    for key in tree:
        if key not in _SECTIONS:
            raise Invalid((key,), "a known table", tree[key], near(key, list(_SECTIONS)))
    parts = convert({key: value for key, value in tree.items() if key != "models"}, _File)
    for index, listen in enumerate(parts.server.listen):
        parse_listen(listen, ("server", "listen", index))
    models = dict(_models(tree, path.parent))
    _no_duplicates(models)
    known = {section: getattr(parts, section) for section in _File.__struct_fields__ if section != "defaults"}
    config = Config(file=str(path), models=models, **known)
    default = config.admission.default_model
    if default and default not in config.names:
        raise Invalid(("admission", "default_model"), "a model's name", default, near(default, list(config.names)))
    return config


def parse_listen(text: str, path: tuple[str | int, ...] = ()) -> tuple[str, str, int]:
    """("tcp", host, port) or ("unix", path, 0) from "127.0.0.1:8080", "[::1]:8080", ":8080" or "unix:/run/x.sock"."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return ("unix", text.removeprefix("unix:"), 0)
    if match := re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^\[\]:]*)):(\d{1,5})", text):
        if (port := int(match[3])) <= 65535:
            return ("tcp", match[1] or match[2] or "0.0.0.0", port)
    raise Invalid(path, '"host:port", "[::1]:port" or "unix:/path"', text)


def _models(tree: Mapping[str, Any], base: Path) -> Iterator[tuple[str, Model]]:
    tables = tree.get("models", {})
    if not isinstance(tables, Mapping):
        raise Invalid(("models",), "tables [models.NAME]", tables)
    if not tables:
        raise Invalid(("models",), "at least one table [models.NAME]", None, "without a model there is nothing to serve")
    defaults = dict(tree.get("defaults", {}))
    for key in (*_MODEL_ONLY, "name"):
        if key in defaults:
            raise Invalid(("defaults", key), "a key that models can share", defaults[key], "it belongs to [models.NAME]")
    for name, table in tables.items():
        where = ("models", name)
        convert(name, Name, path=where)
        if not isinstance(table, Mapping):
            raise Invalid(where, "table", table)
        if "name" in table:
            raise Invalid((*where, "name"), "no name here", table["name"], "the table's own name is the model's")
        merged = {**defaults, **table, "sampling": {**defaults.get("sampling", {}), **_mapping(table, where)}}
        model = convert(merged, Model, path=where)
        yield name, msgspec.structs.replace(model, name=name, **_files(model, base, where))


def _mapping(table: Mapping[str, Any], where: tuple[str, ...]) -> Mapping[str, Any]:
    sampling = table.get("sampling", {})
    if not isinstance(sampling, Mapping):
        raise Invalid((*where, "sampling"), "table", sampling)
    return sampling


def _files(model: Model, base: Path, where: tuple[str, ...]) -> dict[str, str]:
    """The resolved, existing `path` and `chat_template` of a model."""
    template = ""
    if model.chat_template:
        template = _existing(base / model.chat_template, (*where, "chat_template"), model.chat_template)
    if model.worker != Model.__struct_defaults__[Model.__struct_fields__.index("worker")] and not (model.path or model.package):
        return {"chat_template": template}  # another worker may need no file
    if bool(model.path) == bool(model.package):
        raise Invalid((*where, "path"), 'either "path", or "package" and "file"', model.path or None)
    if model.path:
        return {"path": _existing(base / Path(model.path).expanduser(), (*where, "path"), model.path), "chat_template": template}
    if not model.file:
        raise Invalid((*where, "file"), f'the name of a file inside the package "{model.package}"', None)
    folder = _package(model.package, (*where, "package"))
    return {"path": _existing(folder / model.file, (*where, "file"), model.file), "chat_template": template}


def _existing(path: Path, where: tuple[str, ...], got: str) -> str:
    resolved = Path(os.path.normpath(path.absolute()))
    if not resolved.is_file():
        reason = "is a folder" if resolved.is_dir() else "no such file"
        raise Invalid(where, "an existing file", got, f"{reason}: {resolved}")
    if not os.access(resolved, os.R_OK):
        raise Invalid(where, "a readable file", got, f"no permission to read {resolved}")
    return str(resolved)


def _package(package: str, where: tuple[str, ...]) -> Path:
    try:
        spec = importlib.util.find_spec(package)  # finds, but does not import, a top-level package
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise Invalid(where, "an installed Python package", package, f"pip install {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0])


def _no_duplicates(models: Mapping[str, Model]) -> None:
    owner = {name: name for name in models}
    for name, model in models.items():
        for index, alias in enumerate(model.aliases):
            if alias in owner:
                hint = f'[models.{owner[alias]}] has it already'
                raise Invalid(("models", name, "aliases", index), "a name of its own", alias, hint)
            owner[alias] = name


def _place(error: Invalid) -> str:
    """The error's text with the path in the file's own spelling: `[models.qwen3].n_ctx`, `[[keys]] #2.sha256`."""
    path, text = error.path, str(error)
    depth = 2 if path[0] == "models" and len(path) > 1 else 1
    if path[0] == "keys" and len(path) > 1 and isinstance(path[1], int):
        head, rest = f"[[keys]] #{path[1] + 1}", path[2:]
    else:
        head, rest = f"[{'.'.join(str(part) for part in path[:depth])}]", path[depth:]
    place = head + (f".{dotted(rest)}" if rest else "")
    return text.replace(dotted(path), place, 1)
