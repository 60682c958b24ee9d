"""What there is to say of models and of children: their states and phases, facts, catalog entries, ends."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from supervisor.card import Card
from supervisor.config import Model, Sampling


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of every control message; the tag is the class name."""


class State(StrEnum):
    """A model's life. ARCHITECTURE.md, "Model lifecycle"."""

    UNLOADED = "unloaded"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


class Phase(StrEnum):
    """What a child is doing; each busy phase has a deadline. RELIABILITY.md, 5."""

    BOOT = "boot"
    STANDBY = "standby"
    LOADING = "loading"
    DOWNLOADING = "downloading"
    WARMUP = "warmup"
    IDLE = "idle"
    PREFILL = "prefill"
    DECODE = "decode"
    TURN = "turn"
    STOPPING = "stopping"


class Footprint(msgspec.Struct, frozen=True):
    """Memory that a loaded model takes, measured. Bytes by device, "ram", "gpu:0", …, and what of them is KV cache.

    `load_ms`: the time that its load took, 0 = not known.
    """

    devices: dict[str, int] = {}
    kv: int = 0
    load_ms: float = 0.0


class Facts(Message, frozen=True):
    """What a loaded model says of itself. Sizes in bytes; `load_ms` is the time from configuration to ready.

    `task` and `pooling` are words of Model's keys of that name, "auto" decided; `infill`: it has FIM tokens.
    """

    architecture: str = ""
    description: str = ""
    n_ctx: int = 0
    n_ctx_train: int = 0
    n_vocab: int = 0
    n_embd: int = 0
    n_params: int = 0
    size: int = 0
    vocab_type: int = 0
    slots: int = 1
    chat_template: str = ""
    template_caps: dict[str, bool] = {}
    bos_token: str = ""
    eos_token: str = ""
    sampling: Sampling = Sampling()
    load_ms: float = 0.0
    on_cpu: bool = True
    task: str = "generate"
    pooling: str = ""
    infill: bool = False
    memory: Footprint = Footprint()


class Entry(msgspec.Struct, frozen=True):
    """A model as the catalog has it. `source`: preset, models_dir or cache; `memory`: what its last load took.

    `estimated`: bytes that it should take, by device; `pending`: where its file is, is not known yet.
    """

    model: Model
    source: str = "preset"
    card: Card | None = None
    estimated: dict[str, int] = {}
    memory: Footprint | None = None
    pending: bool = False

    @property
    def needs(self) -> dict[str, int]:
        """Bytes by device: what was measured, else what is estimated."""
        return self.memory.devices if self.memory else self.estimated


class ModelStatus(Message, frozen=True):
    """A model as the root sees it. `since`, `retry_at` and `loaded_at` are Unix times; `signal` is a name or "".

    `retry_due` is `retry_at` on the monotonic clock, which all processes share: what is decided must not depend on a
    clock that jumps.
    """

    name: str
    state: State
    since: float
    generation: int = 0
    progress: float = 0.0
    cause: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: str = ""
    stop_reason: str = ""
    restarts: int = 0
    retry_at: float | None = None
    retry_due: float | None = None
    suspended: bool = False
    pid: int | None = None
    loaded_at: float | None = None
    log_tail: tuple[str, ...] = ()
    facts: Facts | None = None
    idle_timeout: float = -1.0  # seconds after its last use in which it goes by itself; negative: never
    blocked_by: tuple[str, ...] = ()  # it is wanted, and these would have to go
    files: dict[str, tuple[int, int]] = {}  # while it is downloaded: bytes there and bytes in all, by URL
    overrides: dict[str, Any] = {}  # settings of this load that are not the configuration's
    load_ms: float = 0.0  # that a load of it should take, 0 = not known
    lora: tuple[float, ...] = ()  # scales of its LoRA adapters, in the order of Model.lora


class Death(Message, frozen=True):
    """A child's end that nobody asked for. `at` is Unix time; `model` is "" for a proxy; `action` is what follows."""

    role: str
    at: float
    cause: str
    message: str
    exit_code: int
    signal: str = ""
    model: str = ""
    generation: int = 0
    pid: int = 0
    uptime_s: float = 0.0
    phase: str = ""
    requests_lost: int = 0
    log_tail: tuple[str, ...] = ()
    action: Literal["restart", "failed", "none"] = "restart"
    retry_in_s: float | None = None
    report: str = ""  # the id of its crash report, "" if none is kept
