"""What stands between a worker's two threads, and what the I/O side needs of a model. Knows no llama.cpp.

The I/O thread puts orders into the inbox; the engine (main thread) puts events into the outbox and writes its vitals,
which the I/O thread reads when it answers a ping. `tests.echo_worker` is another engine behind the same seams.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from supervisor import recorder
from supervisor.config import Model, Parking
from supervisor.control import Facts, Phase
from worker.adapter_set import AdapterSet
from worker.meters import Meters
from worker.places import Places
from worker.protocol import Chat, Embed, Event, Generate, Infill, Rerank, Text, Tokenize, Tokens

if TYPE_CHECKING:
    from worker.chat.machine import Machine  # a standby has no use for it yet
    from worker.guide import Guide

Key = tuple[int, int]  # number of the link, the proxy's number of the request on it


# -- I/O thread → engine ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A request whose prompt is ready; `Accepted` has been sent for it."""

    key: Key
    request: Generate
    prompt: Sequence[int]
    machines: tuple[Machine, ...] = ()  # one for each key, which splits its output; none if the output is only text
    guides: tuple[Guide, ...] = ()  # one for each key, which binds its output; none if nothing does
    arrived: float = field(default_factory=time.monotonic)

    @property
    def keys(self) -> list[Key]:
        """Its own, then those of its siblings."""
        return [self.key, *((self.key[0], id) for id in self.request.siblings)]

    def without(self, key: Key) -> Job | None:
        """What is left when one of its choices is dropped."""
        keys = [each for each in self.keys if each != key]
        if not keys:
            return None
        machines = tuple(machine for each, machine in zip(self.keys, self.machines, strict=False) if each != key)
        guides = tuple(guide for each, guide in zip(self.keys, self.guides, strict=False) if each != key)
        request = replace(self.request, siblings=tuple(id for _, id in keys[1:]))
        return Job(keys[0], request, self.prompt, machines, guides, self.arrived)

    def sibling(self, index: int, request: Generate) -> Job:
        """One of its further choices, which has no prompt of its own."""
        part = slice(index, index + 1)
        return Job(self.keys[index], request, (), self.machines[part], self.guides[part], self.arrived)


@dataclass(frozen=True, slots=True)
class Passages:
    """A request for vectors whose inputs are token ids; `Accepted` has been sent for it."""

    key: Key
    request: Embed | Rerank
    inputs: Sequence[Sequence[int]]
    arrived: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget this request: its client or its proxy is gone."""

    key: Key


@dataclass(frozen=True, slots=True)
class Conclude:
    """End the reasoning of this request, if it reasons."""

    key: Key


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model.

    Descriptors, or -1: `turn`, the file whose lock is the CPU turn; `empty`, for the states that it will leave; `left`,
    those that the last worker left. `template`: the text of a chat template, "" for the configured one. `costs`: see
    Loaded.
    """

    model: Model
    generation: int
    turn: int
    parking: Parking = field(default_factory=Parking)
    empty: int = -1
    left: int = -1
    template: str = ""
    costs: Mapping[int, float] = field(default_factory=dict)
    memory_limit: int = 0  # bytes; 0: none, or the root sees to it


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many workers compute on these cores, this one included."""

    count: int


@dataclass(frozen=True, slots=True)
class Wear:
    """Compute with these LoRA adapters what does not say with which."""

    adapters: AdapterSet


@dataclass(frozen=True, slots=True)
class Leave:
    """Finish what runs until `at` (monotonic seconds), then cut it; then return."""

    at: float


Order = Job | Passages | Drop | Conclude | Load | Crowd | Wear | Leave
Inbox = queue.SimpleQueue[Order]  # bounded by the proxies' admission; switchboard.MAX_JOBS is the last resort


# -- engine → I/O thread ------------------------------------------------------------------------------------------


class Outbox(Protocol):
    """Takes events to their links; never blocks, and merges the deltas of a stream whose proxy is slow."""

    def put(self, link: int, events: Sequence[Event]) -> None: ...

    def backlog(self, link: int) -> int:
        """Events that wait for a link; an engine that outruns its proxy may wait for 0."""


@dataclass(slots=True)
class Vitals:
    """What the I/O thread tells of the main thread, which alone writes it.

    `expected` is the predicted length of this step in seconds.
    """

    steps: int = 0
    progress: float = 0.0
    active: int = 0
    queued: int = 0
    expected: float = 0.0
    meters: Meters = field(default_factory=Meters)
    places: Places = field(default_factory=Places)
    _phase: Phase = Phase.BOOT

    @property
    def phase(self) -> Phase:
        """What the main thread is doing. It is noted for a crash report as well, which must not be a ping old."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase
        recorder.phase(phase)


# -- a model, as the I/O thread and the process see it ------------------------------------------------------------


class TextSide(Protocol):
    """Text ↔ tokens. Called in the I/O thread or, for large inputs, in a helper thread. Raises RequestError."""

    def check(self, request: Generate) -> None:
        """Refuses what this model cannot sample."""

    def prompt(self, prompt: Chat | Text | Infill) -> list[int]:
        """The token ids of a prompt; refuses one that does not fit the context."""

    def tokens(self, prompt: Chat | Text | Infill) -> list[int]:
        """The same of a prompt of any length."""

    def inputs(self, request: Embed | Rerank) -> list[list[int]]:
        """The token ids of each input; refuses what this model gives no vectors of."""

    def machine(self, request: Generate, prompt: Sequence[int]) -> Machine | None:
        """What splits the output of this request into content, reasoning and calls; None if it is only text."""

    def guides(self, request: Generate, prompt: Sequence[int], machines: Sequence[Machine | None]) -> Sequence[Guide]:
        """What binds the output of each choice, whose machines are given; () if nothing does."""

    def render(self, chat: Chat) -> str: ...

    def tokenize(self, request: Tokenize) -> Tokens: ...

    def detokenize(self, tokens: Sequence[int]) -> str: ...


class Loaded(Protocol):
    """A model that can compute."""

    @property
    def facts(self) -> Facts: ...

    @property
    def costs(self) -> Mapping[int, float]:
        """Seconds of a decode by its rows, as measured at this load or an earlier one."""

    @property
    def text(self) -> TextSide: ...

    def run(self, inbox: Inbox, outbox: Outbox, vitals: Vitals) -> None:
        """Serves orders until one says Leave. Raises EngineError."""


class Progress(Protocol):
    """Told how much is loaded, 0…1; answers False if the load is no longer wanted."""

    def __call__(self, done: float, /) -> bool: ...


class Kind(Protocol):
    """A kind of worker: what to import before a model is known, and how to load one."""

    def prepare(self) -> None:
        """The heavy imports; touches no device."""

    def load(self, order: Load, progress: Progress) -> Loaded:
        """Raises LoadError."""
