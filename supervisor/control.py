"""Messages between the root and its children, and the channel that carries them.

One SOCK_SEQPACKET socketpair per child: a message and its descriptors arrive together, whole or not at all. Messages
are small, typed and frozen; what exceeds MAX_INLINE travels in a memfd that is sent along.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

import msgspec

from supervisor.card import Card
from supervisor.config import Config, Log, Model, Parking, Sampling
from supervisor.figures import Series

MAX_INLINE = 60 * 1024  # measured: 212,000 bytes is the largest packet that passes; stay well below
MAX_FDS = 4


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


# -- root → any child ---------------------------------------------------------------------------------------------


class Ping(Message, frozen=True):
    """Answered by a Pong with the same number."""

    number: int


class Stop(Message, frozen=True):
    """End within `deadline` seconds, with exit code 0."""

    deadline: float


class Relog(Message, frozen=True):
    """Log like this from now on; see supervisor.log.configure."""

    log: Log


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
    """`verb`: "load", "unload", "pull" or "remove"; answered by Answer with the same ticket. `admin` may clear FAILED.

    What is pulled is a configured model or "user/repo:QUANT". "remove" is answered once the files are gone.
    `overrides`: settings for this load in place of the configured ones; checked already.
    """

    ticket: int
    verb: str
    model: str
    admin: bool = False
    overrides: dict[str, Any] = {}


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


# -- root → worker ------------------------------------------------------------------------------------------------


class ConfigureWorker(Message, frozen=True):
    """Load this model.

    Descriptors: the file whose lock is the CPU turn; an empty one for the states that the worker will leave to the
    next one; and what the last one left. The second and third may be missing. `template`: the text of a chat template,
    in place of the configured one. `costs`: what an earlier worker of the model has measured, so that this need not.
    `memory_limit`: bytes that it is to allow itself; 0: no bound, or the root sees to it.
    """

    model: Model
    generation: int
    lease: float
    parking: Parking = Parking()
    template: str = ""
    costs: dict[int, float] = {}
    memory_limit: int = 0


class Warm(Message, frozen=True):
    """For a standby: a model of this file waits for its place; it shall be in memory by then."""

    path: str


class Peer(Message, frozen=True):
    """One descriptor comes along: the worker's end of a link to a proxy."""

    proxy: int


class Neighbours(Message, frozen=True):
    """How many workers compute on these cores, this one included; from two on they take turns."""

    count: int


# -- root ↔ scan --------------------------------------------------------------------------------------------------


class Sought(msgspec.Struct, frozen=True):
    """A model that the configuration names: by `path`, or by `hf`, "user/repo:QUANT"."""

    model: str
    path: str = ""
    mmproj: str = ""
    hf: str = ""


class Scan(Message, frozen=True):
    """Look for models and read their headers; answered by Scanned with the same number, the last one `done`.

    `folder`: models_dir or "", watched from then on; `caches`: whether to list what is in them; `state`: the state
    folder; `skip`: folders that did not answer before.
    """

    number: int
    sought: tuple[Sought, ...] = ()
    folder: str = ""
    caches: bool = False
    state: str = ""
    skip: tuple[str, ...] = ()


class Remember(Message, frozen=True):
    """Keep in the state folder how much memory a load took."""

    state: str
    key: str
    footprint: Footprint


class KeepReport(Message, frozen=True):
    """Keep a crash report in the state folder, and of all at most `most`, of at most `size` bytes together."""

    state: str
    id: str
    content: bytes
    most: int
    size: int


class Found(msgspec.Struct, frozen=True):
    """A model's files and facts. `source`: preset for one that was sought, models_dir, cache."""

    model: str
    path: str
    mmproj: str
    source: str
    card: Card


class Scanned(Message, frozen=True):
    """A part of the result. `problems` are sentences for the log."""

    number: int
    found: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()
    done: bool = False


class Known(Message, frozen=True):
    """Before the first Scanned: what the state folder remembers, and the memory of each GPU in bytes."""

    memory: dict[str, Footprint]
    gpus: tuple[int, ...]


class FolderChanged(Message, frozen=True):
    """Something in models_dir is not as it was."""


class Stuck(Message, frozen=True):
    """`path` does not answer, and so nothing in `folder` will be asked; the child is of no more use."""

    path: str
    folder: str


class Discard(Message, frozen=True):
    """Delete these files of a cache, but for what `keep` names or leads to; answered by Discarded."""

    model: str
    paths: tuple[str, ...]
    keep: tuple[str, ...]
    state: str


class Discarded(Message, frozen=True):
    """The files are gone, or `problem` says why not."""

    model: str
    problem: str = ""


# -- root ↔ download ----------------------------------------------------------------------------------------------


class Download(Message, frozen=True):
    """Fetch "user/repo" or "user/repo:QUANT" into the cache. `token`: for the hub, "" = what its library finds.

    `state`: the state folder, where it is noted that the model was fetched here.
    """

    spec: str
    state: str
    token: str = ""


class Planned(Message, frozen=True):
    """What will be fetched, as the model `name`, "user/repo:QUANT". `files`: bytes there and bytes in all, by URL.

    `partial`: where the files are while they are not whole.
    """

    name: str
    files: dict[str, tuple[int, int]]
    partial: tuple[str, ...] = ()


class Fetched(Message, frozen=True):
    """How far it is; as in Planned."""

    files: dict[str, tuple[int, int]]


class Downloaded(Message, frozen=True):
    """Every file is there, whole and checked."""


class DownloadFailed(Message, frozen=True):
    """It ends without the model. `code` is the API's: repo_not_found or download_failed."""

    code: str
    message: str


# -- child → root -------------------------------------------------------------------------------------------------


class Pong(Message, frozen=True):
    """Proof of life. `steps` grows with every step; `expected` is the predicted length of the present one, seconds."""

    number: int
    phase: Phase
    steps: int = 0
    progress: float = 0.0
    active: int = 0
    queued: int = 0
    expected: float = 0.0


class Report(Message, frozen=True):
    """What this process has counted since it began; at most once a second, and only if it has changed."""

    series: list[Series]


class Ready(Message, frozen=True):
    """The worker has loaded its model and answers requests. `costs`: seconds of a decode by its rows, as measured."""

    facts: Facts
    costs: dict[int, float] = {}


class LoadFailed(Message, frozen=True):
    """The worker cannot load its model and is about to exit. `permanent`: trying again is no use."""

    cause: str
    message: str
    permanent: bool = True


FromRoot = (
    Ping | Stop | Relog | ConfigureProxy | ModelChanged | Died | Attach | Drain | Reopen | Lost | Answer | Shutdown
    | ConfigureWorker | Warm | Peer | Neighbours | Ring | KeyUse | Blamed | Figures | Roll | Inquired | Inquiry
    | Finding | Listed | Unlisted | Scan | Remember | KeepReport | Discard | Download | Reconfigure | Reloaded
)  # fmt: skip
ToRoot = (
    Listening | Want | Unwant | Activity | KeepAlive | Drained | Busy | LinkBroken | ModelCommand | ShutDown
    | Pong | Ready | LoadFailed | KeyUse | Blamed | Report | AskFigures | AskRoll | Inquiry | Finding
    | Reload | Scanned | Known | FolderChanged | Stuck | Discarded
    | Planned | Fetched | Downloaded | DownloadFailed
)  # fmt: skip

In = TypeVar("In")


class Closed(Exception):
    """The other end of the channel is gone, or a message could not be had whole: what follows would make no sense."""


class Channel(Generic[In]):
    """One end of a control socket. Never blocks: what cannot be sent now waits in order, up to `limit` messages."""

    def __init__(self, sock: socket.socket, incoming: Any, limit: int = 4096) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.limit = limit  # full: Closed is raised; a peer that takes nothing for so long is given up
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._waiting: list[tuple[bytes, list[int]]] = []
        self.starved = False  # what waits needs a descriptor, and there is none: room in the socket is no help

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def pending(self) -> bool:
        """Whether messages wait; `flush` sends them when there is room, or a descriptor."""
        return bool(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether messages wait for room in the socket; call `flush` when it is writable."""
        return bool(self._waiting) and not self.starved

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Sends, or keeps for `flush`, a message with copies of `fds`; the caller may close its own at once.

        Raises Closed; OSError if there are no descriptors left for the copies: then nothing was sent.
        """
        if len(self._waiting) >= self.limit:
            raise Closed("the peer does not read")
        payload = self._encoder.encode(message)
        self._waiting.append((payload, _copies(fds)))
        self.flush()

    def flush(self) -> bool:
        """Sends what waits; True if nothing is left. Raises Closed if the peer is gone."""
        while self._waiting:
            payload, fds = self._waiting[0]
            if len(payload) > MAX_INLINE:
                try:
                    fds.append(_memfd(payload))
                except OSError:
                    self.starved = True
                    return False
                self._waiting[0] = payload, fds = b"", fds
            self.starved = False
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            flag = b"m" if not payload else b"i"
            try:
                self.sock.sendmsg([flag, payload], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                raise Closed(str(error)) from None
            for fd in fds:
                os.close(fd)
            self._waiting.pop(0)
        return True

    def receive(self) -> tuple[In, list[int]] | None:
        """The next message and its descriptors, None if there is none now. Raises Closed, msgspec.DecodeError.

        A process that may open no more gets the message without any.
        """
        try:
            packet, fds, flags, _ = socket.recv_fds(self.sock, MAX_INLINE + 1024, MAX_FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed(str(error)) from None
        if not packet:
            raise Closed("end of file")
        payload = packet[1:]
        if flags & socket.MSG_CTRUNC:  # some were lost, and which of them is not said
            for fd in fds:
                os.close(fd)
            fds = []
            if packet[:1] == b"m":
                raise Closed("no descriptors left for a message of the peer")
        if packet[:1] == b"m":
            payload = _read_memfd(fds.pop())
        return self._decoder.decode(payload), fds

    def close(self) -> None:
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()
        self.sock.close()


def _copies(fds: Sequence[int]) -> list[int]:
    """Raises OSError, and leaves none behind then."""
    copies: list[int] = []
    try:
        copies += (os.dup(fd) for fd in fds)
    except OSError:
        for copy in copies:
            os.close(copy)
        raise
    return copies


def _memfd(payload: bytes) -> int:
    fd = os.memfd_create("lsv-message")
    with open(fd, "wb", closefd=False) as file:
        file.write(payload)
    return fd


def _read_memfd(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()
