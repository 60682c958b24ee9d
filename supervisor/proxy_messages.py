"""What root and proxies say to each other. Tagged, typed, frozen; see supervisor.control."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.config import Config
from supervisor.figures import Series
from supervisor.states import Death, Entry, Message, ModelStatus

# -- root → proxy -------------------------------------------------------------------------------------------------


class ConfigureProxy(Message, frozen=True):
    """The first message to a proxy: the configuration, every model and its state, and the last deaths.

    `boot` names this root, `number` what it told last; those of ModelChanged, Died, Listed, Unlisted go on from there.
    """

    index: int
    config: Config
    models: tuple[ModelStatus, ...]
    entries: tuple[Entry, ...] = ()
    boot: str = ""
    number: int = 0
    deaths: tuple[Death, ...] = ()


class Listed(Message, frozen=True):
    """These models are in the catalog now, or are known better; the status of one that is new comes along.

    `reload`: those who have a list should ask for it again.
    """

    entries: tuple[Entry, ...]
    statuses: tuple[ModelStatus, ...] = ()
    reload: bool = True
    number: int = 0


class Unlisted(Message, frozen=True):
    """This model is in the catalog no more."""

    model: str
    number: int = 0


class ModelChanged(Message, frozen=True):
    """A model moved, or progressed."""

    status: ModelStatus
    number: int = 0


class Died(Message, frozen=True):
    """A child died; what becomes of its model is told next."""

    death: Death
    number: int = 0


class Attach(Message, frozen=True):
    """One descriptor comes along: the proxy's end of a link to this generation of the model's worker."""

    model: str
    generation: int


class KeyUse(Message, frozen=True):
    """What an API key's clients have used on a proxy: requests in flight there now, and how much more in all.

    From a proxy to the root, and from the root to the other proxies.
    """

    key: str
    proxy: int
    running: int
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Blamed(Message, frozen=True):
    """A worker has died under a request with this digest (proxy.quarantine).

    From a proxy to the root, and from the root to the other proxies.
    """

    model: str
    digest: bytes


class Reconfigure(Message, frozen=True):
    """Another configuration; what of it a proxy cannot take over while it runs is as before."""

    config: Config


class Reloaded(Message, frozen=True):
    """The answer to Reload: names of models, or `error` and the place of it; then nothing has changed.

    `restarting`: those that were loaded, and drain because of it. `complete`: the folders have been looked through.
    """

    ticket: int = 0
    error: str = ""
    table: str = ""
    key: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restarting: tuple[str, ...] = ()
    complete: bool = True


class Ring(Message, frozen=True):
    """One descriptor comes along: the ring (supervisor/ring.py) with the last lines of `source`, a process's role."""

    source: str


class Drain(Message, frozen=True):
    """Admit nobody new to this model. Answer Drained when nothing is in flight; with `if_idle`, or Busy at once.

    After `deadline` seconds (None: never) what still runs ends with an error event that names `reason`.
    """

    model: str
    generation: int
    reason: str
    if_idle: bool = False
    deadline: float | None = None


class Reopen(Message, frozen=True):
    """A drain is withdrawn: admit again."""

    model: str
    generation: int


class Lost(Message, frozen=True):
    """This generation is gone or given up: end its streams now with `cause`."""

    model: str
    generation: int
    cause: str
    message: str = ""


class Answer(Message, frozen=True):
    """The outcome of a ModelCommand. `error` is an API code or ""; `already` says that nothing had to be done.

    `model`: the id of what a "pull" is about.
    """

    ticket: int
    error: str = ""
    message: str = ""
    already: bool = False
    model: str = ""


class Figures(Message, frozen=True):
    """The answer to AskFigures: what all processes have counted."""

    ticket: int
    series: list[Series]


class Process(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process of the tree as GET /admin/tree shows it. `state`: of its model, or running, suspended, stopping, …

    `since`: the Unix time at which its phase or its steps last changed; `step`: how many; `rss`: bytes;
    `pong_age_ms`: since its last sign of life; None: there was none, or it is the root.
    """

    role: str
    pid: int
    uptime_s: float
    state: str
    phase: str
    since: float
    model: str | None = None
    step: int | None = None
    pong_age_ms: int | None = None
    rss: int | None = None
    restarts: int | None = None


class Roll(Message, frozen=True):
    """The answer to AskRoll: every process of the tree."""

    ticket: int
    processes: list[Process]


class Inquired(Message, frozen=True):
    """So many other proxies have been sent an Inquiry; each answers with a Finding."""

    ticket: int
    count: int


class Shutdown(Message, frozen=True):
    """Stop accepting; end what runs after `deadline` seconds with an error event; then answer ShutDown."""

    deadline: float


# -- proxy → root -------------------------------------------------------------------------------------------------


class Listening(Message, frozen=True):
    """The proxy answers HTTP."""


class Want(Message, frozen=True):
    """Requests wait for this model. `priority` is the highest among them; another one is told by another message."""

    model: str
    priority: int = 0


class Unwant(Message, frozen=True):
    """The last request that waited for this model has left."""

    model: str


class Activity(Message, frozen=True):
    """How many requests this proxy has in flight on a model; sent when it turns zero or non-zero."""

    model: str
    generation: int
    in_flight: int


class KeepAlive(Message, frozen=True):
    """A client wants the model kept for so many seconds after its last use; negative: for ever."""

    model: str
    generation: int
    seconds: float


class Drained(Message, frozen=True):
    """Nothing is in flight on this generation, and nothing new will be admitted."""

    model: str
    generation: int


class Busy(Message, frozen=True):
    """The answer to Drain(if_idle): requests are in flight, admission goes on."""

    model: str
    generation: int


class LinkBroken(Message, frozen=True):
    """A link carried something that is no protocol, or ended while the worker lives.

    `blameless`: the proxy had no descriptor left to take it; the worker is not to blame.
    """

    model: str
    generation: int
    reason: str
    blameless: bool = False


class ModelCommand(Message, frozen=True):
    """`verb`: "load", "unload", "scale", "pull" or "remove"; answered by Answer with the same ticket.

    What is pulled is a configured model or "user/repo:QUANT". "remove" is answered once the files are gone.
    `admin` may clear FAILED. `overrides`: settings for this load in place of the configured ones, checked already; for
    "scale" `lora`, pairs of an adapter's id and its scale.
    """

    ticket: int
    verb: str
    model: str
    admin: bool = False
    overrides: dict[str, Any] = msgspec.field(default_factory=dict)


class AskFigures(Message, frozen=True):
    """Answered by Figures with the same ticket."""

    ticket: int


class AskRoll(Message, frozen=True):
    """Answered by Roll with the same ticket."""

    ticket: int


class Reload(Message, frozen=True):
    """Read the configuration again, and look for models; answered by Reloaded with the same ticket."""

    ticket: int


class Inquiry(Message, frozen=True):
    """A question to all other proxies, which the root passes on; `origin` is the asking one's number, as it sets it."""

    ticket: int
    payload: bytes
    origin: int = -1


class Finding(Message, frozen=True):
    """The answer to an Inquiry, which the root passes back, with a descriptor that may come along."""

    ticket: int
    payload: bytes
    origin: int


class ShutDown(Message, frozen=True):
    """The proxy accepts no more and has nothing in flight."""
