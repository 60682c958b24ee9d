"""Several workers of one model: what they are called, which of them speaks for it, when there is to be one more. Pure.

Each replica has a state machine, a place and a process of its own, under the names "qwen3", "qwen3#2", "qwen3#3": no
model's name has a "#". Clients know the model only. The first replica is the one that requests have loaded, and that an
operator means; the others come when requests wait in all that are ready, and take only room that nobody else needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from supervisor.control import Entry, State

_MARK = "#"
_SPEAKS = (State.READY, State.LOADING, State.DRAINING, State.STOPPING)  # the first of these, if any replica has it


class Stateful(Protocol):
    """A model's machine, or its status."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> State: ...


R = TypeVar("R", bound=Stateful)


def named(model: str, number: int) -> str:
    """The name of a model's replica; they are counted from 1."""
    return model if number == 1 else f"{model}{_MARK}{number}"


def base(name: str) -> str:
    """The model that a replica is one of."""
    return name.partition(_MARK)[0]


def number(name: str) -> int:
    """Which replica of its model it is, from 1."""
    return int(name.partition(_MARK)[2] or 1)


def first(name: str) -> bool:
    """Whether it is a model's first replica."""
    return _MARK not in name


def expanded(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Every replica that there may be. A pin and a preload are about the first one."""
    found: dict[str, Entry] = {}
    for name, entry in entries.items():
        found[name] = entry
        for other in range(2, entry.model.replicas + 1):
            own = msgspec.structs.replace(entry.model, name=named(name, other), pin=False, preload=False)
            found[own.name] = msgspec.structs.replace(entry, model=own)
    return found


def front(replicas: Sequence[R], suspended: Iterable[str] = ()) -> R:
    """The replica whose state is the model's: one that serves, else one that is there, else the first.

    `replicas` are those of one model in their order. A model is not failed because a further replica of it is.
    """
    if len(replicas) == 1:
        return replicas[0]
    serving = [each for each in replicas if each.state is State.READY and each.name not in suspended]
    for each in serving:
        return each
    there = [each for each in replicas if each.state in _SPEAKS]
    return min(there, key=lambda each: _SPEAKS.index(each.state), default=replicas[0])


def fronts(models: Iterable[R], suspended: Iterable[str] = ()) -> list[R]:
    """One replica of each model."""
    found: dict[str, list[R]] = {}
    for each in models:
        found.setdefault(base(each.name), []).append(each)
    return [front(sorted(each, key=lambda one: number(one.name)), suspended) for each in found.values()]


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica as `one_more` sees it. `crowded`: requests wait in it for a sequence; `placeable`: see placement."""

    name: str
    state: State
    crowded: bool
    placeable: bool


def one_more(replicas: Sequence[Seen]) -> str:
    """The replica to be loaded next, if there is room; "" if none is needed, or one is on its way already."""
    if any(each.state is State.LOADING for each in replicas):
        return ""
    ready = [each for each in replicas if each.state is State.READY]
    if not ready or not all(each.crowded for each in ready):
        return ""
    return next((each.name for each in replicas if each.placeable), "")
