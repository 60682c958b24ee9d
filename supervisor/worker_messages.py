"""What the root says to workers and to any child, and they to it. See supervisor.control."""

from __future__ import annotations

import msgspec

from supervisor.config import Log, Model, Parking
from supervisor.figures import Series
from supervisor.states import Facts, Message, Phase

# -- root → any child ---------------------------------------------------------------------------------------------


class Ping(Message, frozen=True):
    """Answered by a Pong with the same number. A child that hears nothing for `lease` seconds then ends; 0: never."""

    number: int
    lease: float = 0.0


class Stop(Message, frozen=True):
    """End within `deadline` seconds, with exit code 0."""

    deadline: float


class Relog(Message, frozen=True):
    """Log like this from now on; see supervisor.log.configure."""

    log: Log


# -- root → worker ------------------------------------------------------------------------------------------------


class ConfigureWorker(Message, frozen=True):
    """Load this model.

    Descriptors: the file whose lock is the CPU turn; an empty one for the states that the worker will leave to the
    next one; and what the last one left. The second and third may be missing. `template`: the text of a chat template,
    in place of the configured one. `costs`: what an earlier worker of the model has measured, so that this need not.
    `memory_limit`: bytes that it is to allow itself; 0: no bound, or the root sees to it. `slot_folder`: where states
    of slots are; "": nowhere.
    """

    model: Model
    generation: int
    parking: Parking = Parking()
    template: str = ""
    costs: dict[int, float] = msgspec.field(default_factory=dict)
    memory_limit: int = 0
    slot_folder: str = ""


class Warm(Message, frozen=True):
    """For a standby: a model of this file waits for its place; it shall be in memory by then."""

    path: str


class Peer(Message, frozen=True):
    """One descriptor comes along: the worker's end of a link to a proxy."""

    proxy: int


class Neighbours(Message, frozen=True):
    """How many workers compute on these cores, this one included; from two on they take turns."""

    count: int


class SetScales(Message, frozen=True):
    """From now on requests that do not say are computed with these scales of Model.lora, in its order."""

    scales: tuple[float, ...]


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
    costs: dict[int, float] = msgspec.field(default_factory=dict)


class LoadFailed(Message, frozen=True):
    """The worker cannot load its model and is about to exit. `permanent`: trying again is no use."""

    cause: str
    message: str
    permanent: bool = True
