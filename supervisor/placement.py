"""Pure: which wanted model is loaded now, and which idle ones must go for it. No model that works is ever taken.

A model fits where there is a place (`max_models`), memory on each device (`budgets`), and no other of its group. While
one stops, and there is memory for both, another loads in its place.

A further replica of a model that is ready takes free room only, and after everybody else; for another model it goes
before any model does, and at once, even if it is busy: what it runs ends, and what comes goes to the other replicas.

Fairness is by turns. A model that was loaded first admits all who waited for it, however long others wait; then, and
while nobody waits longer than `max_wait`, whoever comes. So a queue A A B A C A B C loads each model once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from supervisor.control import State

_HOLDS = {State.LOADING, State.READY, State.DRAINING, State.STOPPING}
_LEAVING = {State.DRAINING, State.STOPPING}
_NOBODY: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Resident:
    """A replica of a model as placement sees it. `last_used`: when its last request ended; `placeable`: see lifecycle.

    `needs`: bytes by device; `group`: only one model of it is in memory at a time, "" = none; `model`: whose replica it
    is, "" = it is the only one; `extra`: another replica of its model serves, too.
    """

    name: str
    state: State
    in_flight: int = 0
    last_used: float = 0.0
    pinned: bool = False
    placeable: bool = False
    evicting: bool = False  # draining for the sake of another, so that the drain can be withdrawn
    stuck: bool = False  # failed, but its process cannot be killed: the place stays taken
    needs: Mapping[str, int] = field(default_factory=dict)
    priority: int = 0  # one of a lower priority makes it go in no case
    group: str = ""
    settling: bool = False  # loaded so short a time ago that it stays
    promised: bool = False  # ready, but those who waited for it have not been admitted yet
    model: str = ""
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that somebody waits for. A restart after a crash evicts nobody. `priority`: the waiters' highest.

    `extra`: it is a further replica of a model that serves already.
    """

    name: str
    since: float
    evicts: bool = True
    priority: int = 0
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. `evict`: drain if idle; `close`: drain a busy model, whose requests all run to their end.

    `refuse`: wants that can never be met, and why; `blocked`: those that wait for models which cannot go now.
    """

    load: list[str] = field(default_factory=list)
    evict: list[str] = field(default_factory=list)
    close: list[str] = field(default_factory=list)
    reopen: list[str] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, list[str]] = field(default_factory=dict)


def plan(
    residents: Iterable[Resident],
    wants: Sequence[Wanted],
    max_models: int,
    max_wait: float,
    now: float,
    budgets: Mapping[str, int] = _NOBODY,
) -> Plan:
    """In turn (`queue`) each want takes free room, or room that is being vacated, or evicts idle models.

    A want older than `max_wait` seconds closes admission to the least recently used busy models, so that steady traffic
    on one model cannot starve another. One that waits keeps later ones from what it waits for. `max_models` 0 = no
    limit; a device without a budget has none either.
    """
    models = {resident.name: resident for resident in residents}
    held = [model for model in models.values() if model.state in _HOLDS or model.stuck]
    today = _Room(max_models, budgets, held)
    later = _Room(max_models, budgets, [model for model in held if model.state not in _LEAVING])
    idle, extras, busy = _victims(models.values(), {want.name for want in wants})
    result = Plan()
    for want in queue((want for want in wants if not want.extra), max_wait, now):
        model = models[want.name]
        if model.state is State.DRAINING and model.evicting:
            continue  # kept, if the one it goes for leaves; see below
        if not model.placeable and model.state not in _LEAVING:
            continue  # in back-off a model holds no reservation
        if why := too_large(model, budgets):
            if model.placeable:  # one that is still leaving cannot fail yet; its waiters would never hear of it
                result.refuse[want.name] = why
            continue
        if later.fits(model):
            if today.fits(model) and model.placeable:
                result.load.append(want.name)
                today.take(model)
        elif not want.evicts:
            continue
        elif (chosen := _chosen(model, idle, later)) or (chosen := _chosen(model, [*idle, *extras], later)):
            result.evict.extend(_named(chosen, idle))
            result.close.extend(_named(chosen, extras))
        elif now - want.since >= max_wait and (chosen := _chosen(model, [*idle, *extras, *busy], later)):
            result.evict.extend(_named(chosen, idle))
            result.close.extend(_named(chosen, extras))
            result.close.extend(_named(chosen, busy))
        else:
            result.blocked[want.name] = sorted(later.names)
        later.take(model)
    result.reopen.extend(_withdrawn(models.values(), wants, later))
    for want in wants:
        if want.extra and (model := models[want.name]).placeable and today.fits(model) and later.fits(model):
            result.load.append(want.name)
            today.take(model)
            later.take(model)
    return result


def queue(wants: Iterable[Wanted], max_wait: float, now: float) -> list[Wanted]:
    """The order in which they are served: first come first, the more important before it.

    What has waited for `max_wait` is before everything that has not, so that importance starves nobody.
    """

    def key(want: Wanted) -> tuple[bool, int, float]:
        fresh = now - want.since < max_wait
        return fresh, -want.priority if fresh else 0, want.since

    return sorted(wants, key=key)


def spare(residents: Iterable[Resident], name: str, wanted: set[str]) -> str:
    """Who goes for a load that ran out of memory in spite of the estimate: the idle model unused for longest, or ""."""
    models = {resident.name: resident for resident in residents}
    idle, _, _ = _victims(models.values(), wanted | {name})
    return next((victim.name for victim in idle if victim.priority <= models[name].priority), "")


def crowded(residents: Sequence[Resident], name: str, max_models: int, budgets: Mapping[str, int] = _NOBODY) -> bool:
    """Whether the others leave no room for it."""
    others = [other for other in residents if (other.state in _HOLDS or other.stuck) and other.name != name]
    (model,) = (each for each in residents if each.name == name)
    return not _Room(max_models, budgets, others).fits(model)


def too_large(model: Resident, budgets: Mapping[str, int]) -> str:
    """Why it fits in no case, "" if it may."""
    over = [(name, need, budgets[name]) for name, need in model.needs.items() if need > budgets.get(name, need)]
    return "; ".join(f"it needs {_size(need)} of {name}, of which there are {_size(most)}" for name, need, most in over)


def _size(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"


class _Room:
    """What is taken, and whether one more fits."""

    def __init__(self, max_models: int, budgets: Mapping[str, int], held: Sequence[Resident]) -> None:
        self._max_models, self._budgets = max_models, budgets
        self.names: set[str] = set()
        self._used: Counter[str] = Counter()
        self._groups: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)  # group → models, replicas
        self._stopping = [model for model in held if model.state is State.STOPPING]
        for model in held:
            self.take(model)

    def fits(self, model: Resident) -> bool:
        return (
            (self._max_models == 0 or len(self.names) - self._yielded(model) < self._max_models)
            and not (model.group and self._excludes(model))
            and all(self._used[name] + need <= self._budgets.get(name, 2**63) for name, need in model.needs.items())
        )

    def _excludes(self, model: Resident) -> bool:
        """Whether one of its group is there that is no other replica of its model."""
        there = self._groups[model.group].elements()
        return any(own != _model(model) or name == model.name for own, name in there)

    def _yielded(self, model: Resident) -> int:
        """The place of one that is stopping: it admits nothing, so only its memory counts, if that is known."""
        return int(any(self._measures(other) for other in self._stopping) and self._measures(model))

    def _measures(self, model: Resident) -> bool:
        return bool(model.needs) and all(name in self._budgets for name in model.needs)

    def take(self, model: Resident) -> None:
        self.names.add(model.name)
        self._used.update(model.needs)
        self._groups[model.group][_model(model), model.name] += 1

    def free(self, model: Resident) -> None:
        self.names.discard(model.name)
        self._used.subtract(model.needs)
        self._groups[model.group][_model(model), model.name] -= 1


def _model(resident: Resident) -> str:
    return resident.model or resident.name


def _chosen(model: Resident, victims: Sequence[Resident], room: _Room) -> list[Resident]:
    """Those of the victims, first come first taken, that have to go so that the model fits; the room is without them.

    [] if all of them are too few.
    """
    taken: list[Resident] = []
    for victim in victims:
        if not room.fits(model) and victim.priority <= model.priority:
            room.free(victim)
            taken.append(victim)
    enough, needed = room.fits(model), list[Resident]()
    for victim in reversed(taken):
        room.take(victim)
        if enough and not room.fits(model):  # else it was taken early, and a later one was enough
            room.free(victim)
            needed.append(victim)
    return needed[::-1]


def _named(victims: list[Resident], among: list[Resident]) -> list[str]:
    """Takes them from the candidates."""
    gone = [victim for victim in victims if victim in among]
    for victim in gone:
        among.remove(victim)
    return [victim.name for victim in gone]


def _withdrawn(models: Iterable[Resident], wants: Sequence[Wanted], room: _Room) -> list[str]:
    """Drains that no longer serve anybody; first those of models that are wanted themselves."""
    wanted = {want.name for want in wants}
    leaving = [model for model in models if model.evicting and model.state is State.DRAINING]
    leaving.sort(key=lambda model: model.name not in wanted)
    found: list[str] = []
    for model in leaving:
        if room.fits(model):
            room.take(model)
            found.append(model.name)
    return found


def _victims(models: Iterable[Resident], wanted: set[str]) -> tuple[list[Resident], list[Resident], list[Resident]]:
    """Who may go, the least important and least recently used first: idle ones, busy further replicas, busy models."""
    ready = [m for m in models if m.state is State.READY and m.name not in wanted]
    ready = [m for m in ready if not (m.pinned or m.settling or m.promised)]
    ready.sort(key=lambda model: (model.priority, not model.extra, model.last_used, model.name))
    busy = [m for m in ready if m.in_flight]
    return [m for m in ready if not m.in_flight], [m for m in busy if m.extra], [m for m in busy if not m.extra]
