"""Pure: the life of one model. `step(model, event, now, …)` → the model after it and the actions to perform.

    UNLOADED ─Place▶ LOADING ─Loaded▶ READY ─DrainBegun▶ DRAINING ─DrainedOut▶ STOPPING ─Exited▶ UNLOADED
        ▲               │ Exited        │ Exited            │ Reopened ▶ READY    │ Exited, if it was hung
        └──Elapsed── BACKOFF ◀──────────┴───────────────────┴─────────────────────┘
                        └─ too many deaths, or no use ─▶ FAILED ─Cleared▶ UNLOADED

    UNLOADED, BACKOFF, FAILED ─DownloadBegun▶ DOWNLOADING ─DownloadEnded▶ UNLOADED, or FAILED with its cause

A load that runs out of memory stays LOADING once: MakeRoom, then RoomMade, then another process.
Each state has a way out: BACKOFF and draining have deadlines, STOPPING has the ladder, LOADING and READY are watched.
"""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass, field, replace
from typing import assert_never

from supervisor import config, restart
from supervisor.control import Facts, State

EX_CONFIG = 78

TRANSITIONS: dict[State, set[State]] = {
    State.UNLOADED: {State.LOADING, State.FAILED, State.DOWNLOADING},
    State.DOWNLOADING: {State.UNLOADED, State.FAILED},
    State.LOADING: {State.UNLOADED, State.READY, State.STOPPING, State.BACKOFF, State.FAILED},
    State.READY: {State.DRAINING, State.STOPPING, State.BACKOFF, State.FAILED},
    State.DRAINING: {State.READY, State.STOPPING, State.BACKOFF, State.FAILED},
    State.STOPPING: {State.UNLOADED, State.BACKOFF, State.FAILED},
    State.BACKOFF: {State.UNLOADED, State.LOADING, State.FAILED, State.DOWNLOADING},
    State.FAILED: {State.UNLOADED, State.DOWNLOADING},
}


@dataclass(frozen=True, slots=True)
class Model:
    """All that the root knows of a model's life. Times are monotonic."""

    name: str
    state: State = State.UNLOADED
    since: float = 0.0
    generation: int = 0
    history: restart.History = field(default_factory=restart.History)
    refusals: int = 0
    refused: bool = False  # the worker of this load has said why it fails
    retried: bool = False  # this load ran out of memory once, and is tried again
    makes_room: bool = False  # LOADING without a process, until others have gone
    retry_at: float | None = None
    stop_reason: str = ""
    doomed: bool = False  # STOPPING because it was hung: its end is a death
    cause: str = ""
    message: str = ""
    exit_code: int | None = None
    signal: str = ""
    restarts: int = 0
    facts: Facts | None = None

    @property
    def stuck(self) -> bool:
        """Failed, but its process cannot be killed: its memory stays taken."""
        return self.state is State.FAILED and self.cause == "unkillable"

    def placeable(self, now: float) -> bool:
        """Whether a load may begin now."""
        return self.state is State.UNLOADED or (self.state is State.BACKOFF and now >= (self.retry_at or 0.0))


# -- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Placement has room: load."""


@dataclass(frozen=True, slots=True)
class Impossible:
    """Placement will never have room: no load is tried."""

    message: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The worker is ready."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker says why it cannot load; its exit follows."""

    cause: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class RoomMade:
    """Who was to go for a load that ran out of memory has gone, as far as anybody could."""


@dataclass(frozen=True, slots=True)
class DrainBegun:
    """It shall go, once nothing is in flight. `reason`: requested, evicted, shutdown, reload."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reopened:
    """It may stay after all."""


@dataclass(frozen=True, slots=True)
class DrainedOut:
    """Nothing is in flight any more, or the drain's deadline is over."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The load is not awaited any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Hung:
    """The worker lives, but does not work."""

    message: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The process is gone: exit code, or -N for signal N.

    `out_of_memory`: the kernel took it. `beyond`: its own memory_limit was why, in words.
    """

    code: int
    out_of_memory: bool = False
    message: str = ""
    beyond: str = ""


@dataclass(frozen=True, slots=True)
class Unkillable:
    """SIGKILL did not end it in time."""


@dataclass(frozen=True, slots=True)
class Elapsed:
    """The back-off is over and nobody wants the model."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """An admin wants it tried again."""


@dataclass(frozen=True, slots=True)
class DownloadBegun:
    """Its files are being fetched."""


@dataclass(frozen=True, slots=True)
class DownloadEnded:
    """The files are there; or `message` says why not. `cancelled`: because somebody wanted it so."""

    message: str = ""
    cancelled: bool = False


Event = (
    Place
    | Impossible
    | Loaded
    | Refused
    | RoomMade
    | DrainBegun
    | Reopened
    | DrainedOut
    | Cancelled
    | Hung
    | Exited
    | Unkillable
    | Elapsed
    | Cleared
    | DownloadBegun
    | DownloadEnded
)


_FORGIVEN: dict[str, object] = {
    "retry_at": None, "stop_reason": "", "cause": "", "message": "", "exit_code": None, "signal": "", "refusals": 0,
}  # fmt: skip


# -- actions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process, or take the standby, for `generation`."""

    generation: int


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Evict a model, then say RoomMade."""


@dataclass(frozen=True, slots=True)
class AttachLinks:
    """Join the worker to every proxy."""


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Bring the process to its end by the ladder `how`: polite, hung or cancel."""

    how: str


@dataclass(frozen=True, slots=True)
class EndStreams:
    """Tell the proxies that what is in flight is lost."""

    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class WantAgain:
    """A model that served and died comes back without being asked."""


Action = StartWorker | MakeRoom | AttachLinks | StopWorker | EndStreams | WantAgain
Step = tuple[Model, list[Action]]


class IllegalTransition(AssertionError):
    """A bug of ours: the table does not know this move."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides about restarts; `draw` gives the jitter."""

    restart: config.Restart
    draw: random.Random = field(default_factory=random.Random)


def step(model: Model, event: Event, now: float, policy: Policy) -> Step:
    """One event. What does not fit the state any more (a late answer) changes nothing."""
    match event:
        case Loaded() | Refused() | Hung() | Exited() if model.makes_room:
            return model, []  # of a process that has ended
        case Place() if model.placeable(now):
            return _load(model, now)
        case Impossible(message) if model.state in (State.UNLOADED, State.BACKOFF):
            return move(model, State.FAILED, now, cause="insufficient_memory", message=message), []
        case DownloadBegun() if State.DOWNLOADING in TRANSITIONS[model.state] and not model.stuck:
            return move(model, State.DOWNLOADING, now, **_FORGIVEN), []
        case DownloadEnded(message, cancelled) if model.state is State.DOWNLOADING:
            goal = State.FAILED if message and not cancelled else State.UNLOADED
            return move(model, goal, now, cause="download_error" if message else "", message=message), []
        case Loaded(facts) if model.state is State.LOADING:
            kept = {"facts": facts, "refusals": 0, "cause": "", "message": "", "exit_code": None, "signal": ""}
            return move(model, State.READY, now, **kept), [AttachLinks()]
        case Refused(cause, message, permanent) if model.state is State.LOADING:
            refusals = 2 if permanent else model.refusals + 1
            return replace(model, cause=cause, message=message, refusals=refusals, refused=True), []
        case RoomMade() if model.state is State.LOADING and model.makes_room:
            generation = model.generation + 1
            return replace(model, generation=generation, makes_room=False), [StartWorker(generation)]
        case DrainBegun(reason) if model.state is State.READY:
            return move(model, State.DRAINING, now, stop_reason=reason), []
        case Reopened() if model.state is State.DRAINING:
            return move(model, State.READY, now, stop_reason=""), [AttachLinks()]
        case DrainedOut() if model.state is State.DRAINING:
            return move(model, State.STOPPING, now), [_unloaded(model), StopWorker("polite")]
        case Cancelled(reason) if model.state is State.LOADING and model.makes_room:
            return move(model, State.UNLOADED, now, stop_reason=reason, makes_room=False), []
        case Cancelled(reason) if model.state is State.LOADING:
            return move(model, State.STOPPING, now, stop_reason=reason), [StopWorker("cancel")]
        case Hung(message) if model.state in (State.LOADING, State.READY, State.DRAINING):
            after = move(model, State.STOPPING, now, doomed=True, cause="hung", message=message)
            return after, [EndStreams("hung", message), StopWorker("hung")]
        case Exited():
            return _exited(model, event, now, policy)
        case Unkillable() if model.state is State.STOPPING:
            text = "the process does not end on SIGKILL; its memory stays taken until it does"
            return move(model, State.FAILED, now, cause="unkillable", message=text), []
        case Elapsed() if model.state is State.BACKOFF:
            return move(model, State.UNLOADED, now), []
        case Cleared() if model.state in (State.FAILED, State.BACKOFF) and not model.stuck:
            return move(model, State.UNLOADED, now, history=restart.History(), refusals=0, retry_at=None), []
        case (
            Place()
            | Impossible()
            | Loaded()
            | Refused()
            | RoomMade()
            | DrainBegun()
            | Reopened()
            | DrainedOut()
            | Cancelled()
            | Hung()
        ):
            return model, []
        case Unkillable() | Elapsed() | Cleared() | DownloadBegun() | DownloadEnded():
            return model, []
        case _:
            assert_never(event)


def move(model: Model, state: State, now: float, **changes: object) -> Model:
    """The model in another state. Raises IllegalTransition."""
    if state not in TRANSITIONS[model.state]:
        raise IllegalTransition(f"{model.name}: {model.state.name} → {state.name}")
    return replace(model, state=state, since=now, **changes)  # type: ignore[arg-type]


def _load(model: Model, now: float) -> Step:
    generation = model.generation + 1
    cleared = {"retry_at": None, "stop_reason": "", "doomed": False, "refused": False, "retried": False}
    return move(model, State.LOADING, now, generation=generation, **cleared), [StartWorker(generation)]


def _unloaded(model: Model) -> EndStreams:
    return EndStreams("unloaded", f"the model is being unloaded ({model.stop_reason})")


def _exited(model: Model, event: Exited, now: float, policy: Policy) -> Step:
    if model.stuck:  # it went after all
        return move(model, State.UNLOADED, now, cause="", message=""), []
    if model.state is State.STOPPING and not model.doomed:
        ended = {"cause": "", "message": "", "exit_code": 0, "signal": "", "restarts": 0}
        return move(model, State.UNLOADED, now, **ended), []
    if model.state is State.LOADING and not model.retried and _out_of_memory(model, event):
        return replace(model, retried=True, makes_room=True, refused=False), [MakeRoom()]  # stays LOADING
    return _died(model, event, now, policy)


def _out_of_memory(model: Model, event: Exited) -> bool:
    return event.out_of_memory or (model.refused and model.cause == "out_of_memory")


def _died(model: Model, event: Exited, now: float, policy: Policy) -> Step:
    lived = now - model.since if model.state in (State.READY, State.DRAINING) else 0.0
    history, delay = restart.after_death(model.history, now, lived, policy.restart, policy.draw)
    cause, message = _cause(model, event)
    facts = {"history": history, "exit_code": event.code, "signal": signal_name(event.code)}
    actions: list[Action] = [EndStreams(cause, message)]
    again = model.state is State.LOADING and model.retried and _out_of_memory(model, event)
    if again or model.refusals >= 2 or (event.code == EX_CONFIG and model.state is State.LOADING):
        return move(model, State.FAILED, now, cause=cause, message=message, **facts), actions
    if delay is None:
        text = f"{message}; {len(history.deaths)} deaths within {policy.restart.window:.0f} s"
        return move(model, State.FAILED, now, cause="restart_limit", message=text, **facts), actions
    if model.state is not State.DRAINING:
        actions.append(WantAgain())
    retry = {"retry_at": now + delay, "restarts": model.restarts + 1, "doomed": False}
    return move(model, State.BACKOFF, now, cause=cause, message=message, **retry, **facts), actions


def _cause(model: Model, event: Exited) -> tuple[str, str]:
    """The API's word for why it died (API.md, 2.2), and a sentence."""
    if model.doomed or (model.state is State.LOADING and model.refused):
        return model.cause, model.message
    if event.beyond:
        return "memory_limit", event.beyond
    if event.message:
        return "crashed", event.message
    if event.out_of_memory:
        return "oom_killed", "the kernel killed the worker: out of memory"
    name = signal_name(event.code)
    if name in ("SIGKILL", "SIGTERM"):
        return "killed", f"the worker was ended by {name}"
    if name:
        return "crashed", f"the worker crashed with {name}"
    return "exited", f"the worker exited with code {event.code}"


def signal_name(code: int) -> str:
    """ "SIGKILL" for exit code -9; "" for an exit without a signal."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
