"""What can be configured: frozen, typed tables with their defaults. `load` reads them from a TOML file.

conf/models.example.toml explains each key; a test holds it to this file.
"""

from __future__ import annotations

import fnmatch
import os
import re
from typing import Annotated, Any, Literal, dataclass_transform

import msgspec
from msgspec import Meta

from supervisor import schema
from supervisor.samplers import ORDER, Breakers, LogitBias, Samplers
from supervisor.schema import Duration, Invalid, PositiveDuration, Size

EX_CONFIG = 78  # sysexits.h; systemd does not restart on it

Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}\Z",
        description="of letters, digits and ._:/@+- that starts with a letter or digit, at most 200",
    ),
]
RootPath = Annotated[
    str, Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*/?\Z", description='like "/llm", of letters, digits and ._~-')
]
Repository = Annotated[
    str,
    Meta(
        pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(?::[A-Za-z0-9][A-Za-z0-9._-]*)?)?\Z",
        description='like "user/repo" or "user/repo:Q4_K_M"',
    ),
]
Entry = Annotated[str, Meta(pattern=r"^[\w.]+:\w+\Z", description='like "package.module:function"')]
KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%\w+)?)\]|([\w.-]*)):([0-9]{1,5})")
_SUN_PATH = 107  # bytes that fit into sockaddr_un, less the final zero

EXPOSED = "[server].listen reaches beyond this machine, but there are no [[keys]]: anyone may use it"


class ConfigError(Exception):
    """The configuration is wrong; the text names the file, the place and the way out.

    `table` and `key` are that place, like "models.qwen3" and "n_ctx"; "" where it is the whole file, or the table.
    """

    def __init__(self, text: str, *, table: str = "", key: str = "") -> None:
        super().__init__(text)
        self.table, self.key = table, key


@dataclass_transform(frozen_default=True, kw_only_default=True)  # what msgspec does anyway, but mypy cannot see
class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file; immutable once read."""


_Count = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
_Part = Annotated[float, Meta(ge=0, le=1)]
_Some = Annotated[float, Meta(ge=0, le=1000)]
_Finite = Annotated[float, Meta(ge=-1000, le=1000)]


class Sampling(Table, omit_defaults=True):
    """Sampling parameters; None = not said here, so the next source decides: request > model > GGUF > llama.cpp."""

    temperature: _Some | None = None
    dynatemp_range: _Some | None = None
    dynatemp_exponent: _Some | None = None
    top_k: _Count | None = None
    top_p: _Part | None = None
    min_p: _Part | None = None
    typical_p: _Part | None = None
    top_n_sigma: _Finite | None = None
    xtc_probability: _Part | None = None
    xtc_threshold: _Part | None = None
    min_keep: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    seed: Annotated[int, Meta(ge=-1, le=2**32 - 1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=1000)] | None = None
    presence_penalty: _Finite | None = None
    frequency_penalty: _Finite | None = None
    repeat_last_n: _Count | None = None
    dry_multiplier: _Some | None = None
    dry_base: Annotated[float, Meta(ge=1, le=1000)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    dry_penalty_last_n: _Count | None = None
    dry_sequence_breakers: Breakers | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: _Some | None = None
    mirostat_eta: _Some | None = None
    adaptive_target: Annotated[float, Meta(ge=-1000, le=1)] | None = None
    adaptive_decay: Annotated[float, Meta(ge=0, le=0.99)] | None = None
    samplers: Samplers | None = None
    logit_bias: LogitBias | None = None
    max_tokens: _Count | None = None
    ignore_eos: bool | None = None

    def over(self, base: Sampling) -> Sampling:
        """These parameters where they are set, else those of `base`."""
        pairs = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return Sampling(**{name: getattr(base, name) if value is None else value for name, value in pairs})


# What llama.cpp does where nobody says anything. API.md, 5.
LLAMA_DEFAULTS = Sampling(
    temperature=0.8, dynatemp_range=0.0, dynatemp_exponent=1.0, top_k=40, top_p=0.95, min_p=0.05, typical_p=1.0,
    top_n_sigma=-1.0, xtc_probability=0.0, xtc_threshold=0.1, min_keep=0, seed=-1, repeat_penalty=1.0,
    presence_penalty=0.0, frequency_penalty=0.0, repeat_last_n=64, dry_multiplier=0.0, dry_base=1.75,
    dry_allowed_length=2, dry_penalty_last_n=64, dry_sequence_breakers=("\n", ":", '"', "*"), mirostat=0,
    mirostat_tau=5.0, mirostat_eta=0.1, adaptive_target=-1.0, adaptive_decay=0.9, samplers=ORDER, logit_bias=(),
    max_tokens=-1, ignore_eos=False,
)  # fmt: skip


class Server(Table):
    """[server]: where and how the proxies listen."""

    listen: Annotated[tuple[str, ...], Meta(min_length=1)] = ("127.0.0.1:8080",)
    proxies: Annotated[int, Meta(ge=1, le=64)] = 1
    root_path: RootPath = ""
    tls_cert: str = ""
    tls_key: str = ""
    forwarded_allow_ips: tuple[str, ...] = ()
    max_body: Size = 64 * 2**20
    max_depth: Annotated[int, Meta(ge=8, le=256)] = 64
    max_messages: Annotated[int, Meta(ge=1)] = 10000
    max_bodies: Size = 2**30
    body_timeout: PositiveDuration = 60.0
    max_headers: Annotated[Size, Meta(ge=1024, le=2**24)] = 64 * 2**10
    header_timeout: PositiveDuration = 10.0
    keep_alive: PositiveDuration = 75.0
    max_connections: Annotated[int, Meta(ge=1)] = 16384
    max_requests: Annotated[int, Meta(ge=1)] = 8192
    max_pipelined: Annotated[int, Meta(ge=1)] = 64
    cors_origins: tuple[str, ...] | Literal["localhost", "*"] = "localhost"
    allowed_hosts: tuple[str, ...] = ()
    sse_ping_interval: PositiveDuration = 15.0
    events_ping_interval: PositiveDuration = 15.0
    stream_hold: Duration = 20.0
    stream_backlog: Size = 2**20
    stream_backlog_timeout: PositiveDuration = 30.0
    ollama_version: Annotated[str, Meta(min_length=1)] = "0.13.0"
    slots: bool = True
    metrics_public: bool = False
    proxy: Entry = "proxy.main:main"


class Key(Table):
    """[[keys]]: an API key, stored as the SHA-256 of its text. `models` are shell globs over model names.

    `endpoints` are the same over paths. A limit of 0 is none.
    """

    name: Annotated[str, Meta(min_length=1)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="of 64 digits 0-9 and a-f")]
    models: tuple[str, ...] = ("*",)
    endpoints: tuple[str, ...] = ("*",)
    admin: bool = False
    requests_per_minute: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    tokens_per_minute: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    concurrency: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0

    def reaches(self, path: str) -> bool:
        """Whether this key may ask for the path."""
        return any(fnmatch.fnmatchcase(path, glob) for glob in self.endpoints)

    def sees(self, model: str) -> bool:
        """Whether this key may see and use the model."""
        return any(fnmatch.fnmatchcase(model, glob) for glob in self.models)


class Admission(Table):
    """[admission]: what happens to a request whose model is not ready."""

    autoload: bool = True
    default_model: str = ""
    fallback_model: str = ""
    max_queue: Annotated[int, Meta(ge=1)] = 256
    max_queue_total: Annotated[int, Meta(ge=1)] = 1024
    max_wait: Duration = 10.0
    queue_timeout: Duration = 600.0
    restart_hold: Duration = 5.0
    allow_load_overrides: bool = False
    keep_alive_max: Duration = 0.0


class Placement(Table):
    """[placement]: what may be in memory at once."""

    max_models: Annotated[int, Meta(ge=0)] = 4
    memory: Literal["auto"] | dict[str, Size] = "auto"


class Parking(Table):
    """[parking]: states of sequences that are kept outside the KV cache."""

    memory: Literal["auto"] | Size = "auto"
    dir: str = ""
    disk: Size = 8 * 2**30

    @property
    def budget(self) -> int:
        """Bytes of memory; "auto" must have been resolved."""
        return self.memory if isinstance(self.memory, int) else 0


class Liveness(Table):
    """[liveness]: when silence is a hang. RELIABILITY.md, 5."""

    ping_interval: PositiveDuration = 1.0
    pong_timeout: PositiveDuration = 10.0
    suspended_timeout: PositiveDuration = 300.0
    boot_timeout: PositiveDuration = 60.0
    load_timeout: PositiveDuration = 120.0
    first_step_timeout: PositiveDuration = 300.0
    step_timeout: PositiveDuration = 60.0
    lease: Duration = 60.0


class Restart(Table):
    """[restart]: how a child that died comes back. RELIABILITY.md, 6."""

    backoff: Duration = 0.5
    backoff_max: Duration = 30.0
    jitter: Annotated[float, Meta(ge=0, le=0.9)] = 0.2
    stable_after: Duration = 60.0
    max_deaths: Annotated[int, Meta(ge=0)] = 5
    window: PositiveDuration = 300.0


class Shutdown(Table):
    """[shutdown]: the deadlines of a stop, in the order in which they run. RELIABILITY.md, 7."""

    drain_timeout: Duration = 30.0
    stop_timeout: Duration = 10.0
    term_timeout: Duration = 3.0
    kill_timeout: PositiveDuration = 10.0


class Log(Table):
    """[log]: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000

    @property
    def form(self) -> tuple[str, str, int, int]:
        """What supervisor.log.configure takes; plain, as it is unpickled in a child that has armed no lifeline yet."""
        return self.level, self.format, self.rate, self.burst


class Resume(Table):
    """[resume]: streams that a client may come back to. `buffer` is one conversation's, `memory` those of one key."""

    enabled: bool = True
    ttl: PositiveDuration = 300.0
    detached: Duration = 300.0
    buffer: Annotated[Size, Meta(ge=4096)] = 4 * 2**20
    memory: Size = 64 * 2**20


class Ui(Table):
    """[ui]: the pages at `/`. `path`: a folder with an index.html; "" is the project's own."""

    enabled: bool = True
    path: str = ""


class Sources(Table):
    """[sources]: where models come from beside [models.NAME]. `presets`: an INI file as llama-server reads it."""

    models_dir: str = ""
    presets: str = ""
    hf_cache: bool = False
    autodownload: bool = False


class StateFolder(Table):
    """[state]: where facts that outlive the server are kept. "": $XDG_STATE_HOME/llama-supervisor."""

    dir: str = ""
    crash_reports: Annotated[int, Meta(ge=0, le=100_000)] = 100
    crash_reports_size: Size = 16 * 2**20


class Adapter(Table):
    """One of [models.NAME].lora: a LoRA adapter, and its weight in requests that do not say another one."""

    path: Annotated[str, Meta(min_length=1)]
    scale: _Finite = 1.0


class Model(Table):
    """A model: [defaults] and [models.NAME], merged. `name` is its id; `title` is the key `name`, for people.

    `base`: it is no model of its own, but a variant of that one: another name for it, with its own way to answer.
    """

    name: str = msgspec.field(default="", name="id")
    title: str = msgspec.field(default="", name="name")
    description: str = ""
    tags: tuple[str, ...] = ()
    hidden: bool = False
    base: str = ""
    package: str = ""
    file: str = ""
    path: str = ""
    hf: Repository = ""
    mmproj: str = ""
    lora: tuple[str | Adapter, ...] = ()
    aliases: tuple[Name, ...] = ()
    preload: bool = False
    pin: bool = False
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    group: str = ""
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    min_resident: Duration = 0.0
    idle_timeout: Duration = 0.0
    n_ctx: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 4096
    parallel: Annotated[int, Meta(ge=1, le=200)] = 4
    n_gpu_layers: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = -1
    threads: Annotated[int, Meta(ge=0, le=512)] = 0
    n_batch: Annotated[int, Meta(ge=32, le=65536)] = 2048
    n_ubatch: Annotated[int, Meta(ge=32, le=65536)] = 512
    prefill_time: Duration = 0.25
    stream_delay: Duration = 0.016
    flash_attention: Literal["auto", "on", "off"] = "auto"
    kv: KvType = "f16"
    kv_cells: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    swa_full: bool = False
    mmap: bool = True
    mlock: bool = False
    memory_limit: Size = 0
    chat_template: str = ""
    task: Literal["auto", "generate", "embed", "rerank"] = "auto"
    pooling: Literal["auto", "none", "mean", "cls", "last", "rank"] = "auto"
    embd_normalize: Annotated[int, Meta(ge=-1, le=1000)] = 2
    dimensions: tuple[Annotated[int, Meta(ge=1, le=65536)], ...] = ()
    worker: Entry = "worker.main:main"
    chat_template_kwargs: dict[str, Any] = {}
    system_prompt: str = ""
    system_prompt_mode: Literal["missing", "always"] = "missing"
    sampling: Sampling = Sampling()
    force: Sampling = Sampling()

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Those of `lora`; one of which only the path is said counts whole."""
        return tuple(each if isinstance(each, Adapter) else Adapter(path=each) for each in self.lora)

    def variant(self, name: str, own: Model) -> Model:
        """This model as its variant `own` shows it: what that does not say is said here."""
        said = {key: value for key in VARIANT_KEYS if (value := getattr(own, key)) != getattr(_UNSAID, key)}
        kwargs = {**self.chat_template_kwargs, **own.chat_template_kwargs}
        ways = {"sampling": own.sampling.over(self.sampling), "force": own.force.over(self.force)}
        names = {"name": name, "aliases": own.aliases, "title": own.title, "hidden": own.hidden, "tags": own.tags}
        return msgspec.structs.replace(self, **{**said, **ways, **names, "chat_template_kwargs": kwargs})


# What a variant may say; everything else belongs to the load that it shares.
VARIANT_KEYS = (
    "base", "title", "description", "tags", "hidden", "aliases", "sampling", "force", "chat_template_kwargs",
    "system_prompt", "system_prompt_mode",
)  # fmt: skip
_UNSAID = Model()


class Sections(Table):
    """The tables that stand once in a file."""

    server: Server = Server()
    keys: tuple[Key, ...] = ()
    admission: Admission = Admission()
    placement: Placement = Placement()
    parking: Parking = Parking()
    liveness: Liveness = Liveness()
    restart: Restart = Restart()
    sources: Sources = Sources()
    state: StateFolder = StateFolder()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()
    resume: Resume = Resume()
    ui: Ui = Ui()


class Config(Sections, kw_only=True):
    """Everything the file says, checked; configfile.load reads it. `models`: those it and its presets name.

    `variants`: further names of models, by name, see Model.base. `defaults`: what a model has that only [sources]
    found. `warnings`: what is odd, but no error.
    """

    file: str
    models: dict[str, Model]
    variants: dict[str, Model] = {}
    defaults: Model = msgspec.field(default_factory=Model)
    warnings: tuple[str, ...] = ()

    @property
    def exposed(self) -> bool:
        """Whether others than this machine can connect, and need no key."""
        return not self.keys and not all(map(loopback, self.server.listen))

    @property
    def names(self) -> dict[str, str]:
        """Every id and alias → the id of its model."""
        both = (*self.models.values(), *self.variants.values())
        return {word: model.name for model in both for word in (*model.aliases, model.name)}


def loopback(listen: str) -> bool:
    """Whether only this machine can connect to an address."""
    kind, host, _ = parse_listen(listen)
    return kind == "unix" or host in ("localhost", "::1") or host.startswith("127.")


def parse_listen(text: str, path: schema.Path = ()) -> tuple[str, str, int]:
    """("tcp", host, port) or ("unix", path, 0) from "127.0.0.1:8080", "[::1]:8080", ":8080" or "unix:/run/x.sock"."""
    if text.startswith("unix:"):
        socket = text.removeprefix("unix:")
        if not socket or "\0" in socket:
            raise Invalid(path, '"unix:" and a path', text)
        if len(os.fsencode(socket)) > _SUN_PATH:
            raise Invalid(path, f"a socket path of at most {_SUN_PATH} bytes", text)
        return ("unix", socket, 0)
    match = _LISTEN.fullmatch(text)
    if match is None:
        raise Invalid(path, '"host:port", "[::1]:port" or "unix:/path"', text)
    if (port := int(match[3])) > 65535:
        raise Invalid(path, "a port from 0 to 65535", text)
    return ("tcp", match[1] or match[2] or "0.0.0.0", port)  # noqa: S104 - ":8080" says so, and `check` warns
