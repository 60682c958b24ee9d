"""Pure: which wanted model is loaded now, and which idle one must go for it. No model that works is ever taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from supervisor.control import State

_HOLDS = {State.LOADING, State.READY, State.DRAINING, State.STOPPING}
_LEAVING = {State.DRAINING, State.STOPPING}


@dataclass(frozen=True, slots=True)
class Resident:
    """A model as placement sees it. `last_used`: when its last request ended; `placeable`: it may be loaded now."""

    name: str
    state: State
    in_flight: int = 0
    last_used: float = 0.0
    pinned: bool = False
    placeable: bool = False
    evicting: bool = False  # draining for the sake of another, so that the drain can be withdrawn
    stuck: bool = False  # failed, but its process cannot be killed: the place stays taken


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that somebody waits for, in order of arrival. A restart after a crash evicts nobody."""

    name: str
    since: float
    evicts: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `evict`: drain if idle; `close`: drain a busy model, whose requests all run to their end."""

    load: list[str] = field(default_factory=list)
    evict: list[str] = field(default_factory=list)
    close: list[str] = field(default_factory=list)
    reopen: list[str] = field(default_factory=list)


def plan(residents: Iterable[Resident], wants: Sequence[Wanted], max_models: int, max_wait: float, now: float) -> Plan:
    """First come, first served: each want takes a free place, or one that is being vacated, or evicts an idle model.

    A want older than `max_wait` seconds closes admission to the least recently used busy model, so that steady traffic
    on one model cannot starve another. `max_models` 0 = no limit.
    """
    models = {resident.name: resident for resident in residents}
    held = sum(model.state in _HOLDS or model.stuck for model in models.values())
    free = len(wants) if max_models == 0 else max(0, max_models - held)
    leaving = [model for model in models.values() if model.state in _LEAVING]
    vacating = max(0, len(leaving) - max(0, held - max_models))
    idle, busy = _victims(models.values(), {want.name for want in wants})
    result = Plan()
    for want in wants:
        model = models[want.name]
        if model.state is State.DRAINING and model.evicting:
            continue  # kept, if the one it goes for leaves; see below
        if not model.placeable and model.state not in _LEAVING:
            continue  # in back-off a model holds no reservation
        if free:
            free -= 1
            if model.placeable:
                result.load.append(want.name)
        elif vacating:
            vacating -= 1
        elif want.evicts and idle:
            result.evict.append(idle.pop(0).name)
        elif want.evicts and busy and now - want.since >= max_wait:
            result.close.append(busy.pop(0).name)
    result.reopen.extend(_withdrawn(leaving, wants, len(leaving) if max_models == 0 else vacating))
    return result


def _withdrawn(leaving: list[Resident], wants: Sequence[Wanted], surplus: int) -> list[str]:
    """Drains that no longer serve anybody; first those of models that are wanted themselves."""
    wanted = {want.name for want in wants}
    names = [model.name for model in leaving if model.evicting and model.state is State.DRAINING]
    names.sort(key=lambda name: name not in wanted)
    return names[:surplus]


def _victims(models: Iterable[Resident], wanted: set[str]) -> tuple[list[Resident], list[Resident]]:
    """Ready models that may go, least recently used first: those idle, those busy."""
    ready = [m for m in models if m.state is State.READY and not m.pinned and m.name not in wanted]
    ready.sort(key=lambda model: (model.last_used, model.name))
    return [m for m in ready if not m.in_flight], [m for m in ready if m.in_flight]
