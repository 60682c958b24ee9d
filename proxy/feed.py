"""What happens to the models, for those who watch: GET /models/sse. API.md, 2.3.

The root numbers what it tells, so that all proxies agree on the order; here it becomes records, of which the last ones
are kept for a reader that comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from proxy.dialects import model_events
from supervisor import replicas
from supervisor.control import Death, Died, Listed, ModelChanged, ModelStatus, State, Unlisted

KEPT = 1024  # records for readers that come back
BACKLOG = 256  # records that may wait for one reader; more: its stream ends, and it comes back for a snapshot
DEATHS = 10  # kept of each model, and of the proxies together

EVERYBODY = "*"  # what an event is about that is about no model

Sees = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Record:
    """One event of one model. `info`: the model as it was then goes along; `progress`: the next one replaces it."""

    number: int
    model: str
    event: str
    data: dict[str, Any] | None
    status: ModelStatus | None = None
    info: bool = False
    progress: bool = False


class Feed:
    """The records so far, and those who read them. `boot` names the root's run."""

    def __init__(self, boot: str, number: int, statuses: Iterable[ModelStatus], deaths: Iterable[Death]) -> None:
        self.boot = boot
        self.deaths = list(deaths)
        self._known: dict[str, dict[str, ModelStatus]] = {}  # of each model its replicas
        self._fronts: dict[str, ModelStatus] = {}  # of each model how it is
        self._learn(statuses)
        self._number = self._floor = number  # all that came after `_floor` is in `_kept`
        self._kept: deque[Record] = deque()
        self._readers: set[Reader] = set()
        self._closed = False

    # -- for the root's messages --------------------------------------------------------------------------------------

    def changed(self, message: ModelChanged) -> None:
        """A model's state, as the root says."""
        model = replicas.base(message.status.name)
        before, known = self._fronts.get(model), self._known.setdefault(model, {})
        old, known[message.status.name] = known.get(message.status.name), message.status
        self._number = message.number
        after = self._fronts[model] = _front(model, known)
        change = model_events.change(before, after)
        moved = len(known) > 1 and (old is None or old.state is not message.status.state)
        if change is None and moved and after.state is State.READY:
            change = model_events.snapshot(after)  # it serves as before, with one replica more or less
        if change is not None:
            self._tell(Record(message.number, model, change.event, change.data, after, change.info, change.progress))

    def listed(self, message: Listed) -> None:
        """The list of models is another one."""
        self._learn(message.statuses)
        self._number = message.number
        if message.reload:
            self._tell(Record(message.number, EVERYBODY, "models_reload", None))

    def unlisted(self, message: Unlisted) -> None:
        """A model is in the list no more; or a further replica of it, which nobody is told."""
        model = replicas.base(message.model)
        self._known.get(model, {}).pop(message.model, None)
        self._number = message.number
        if replicas.first(message.model):
            self._known.pop(model, None)
            self._fronts.pop(model, None)
            self._tell(Record(message.number, model, "model_remove", None))

    def died(self, message: Died) -> None:
        """A process's end that nobody asked for."""
        death = message.death
        self._number = message.number
        self.deaths.append(death)
        same = [each for each in self.deaths if each.model == death.model]
        if len(same) > DEATHS:
            self.deaths.remove(same[0])
        if death.model:
            self._tell(Record(message.number, death.model, "model_death", model_events.death(death)))

    def close(self) -> None:
        """The server ends: so does every stream."""
        self._closed = True
        self.part()

    def part(self) -> None:
        """Those who read now shall come back: what they may see has changed."""
        for reader in self._readers:
            reader.close()

    # -- for routes ---------------------------------------------------------------------------------------------------

    def subscribe(self, sees: Sees) -> Reader:
        """From now on the reader is given what it may see. Leave with `unsubscribe`."""
        reader = Reader(sees)
        self._readers.add(reader)
        if self._closed:
            reader.close()
        return reader

    def unsubscribe(self, reader: Reader) -> None:
        self._readers.discard(reader)

    def snapshot(self, sees: Sees) -> list[Record]:
        """How each model is now; all bear the number of what was told last."""
        seen = sorted(name for name in self._fronts if sees(name))
        return [self._shown(self._fronts[name]) for name in seen]

    def missed(self, last_id: str, sees: Sees) -> list[Record] | None:
        """What came after the event with this id; None if that is not known here."""
        boot, _, number = last_id.partition(".")
        if boot != self.boot or not number.isascii() or not number.isdigit():
            return None
        if not self._floor <= int(number) <= self._number:
            return None
        return [record for record in self._kept if record.number > int(number) and _shown_to(record, sees)]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _learn(self, statuses: Iterable[ModelStatus]) -> None:
        for status in statuses:
            model = replicas.base(status.name)
            known = self._known.setdefault(model, {})
            known[status.name] = status
            self._fronts[model] = _front(model, known)

    def _shown(self, status: ModelStatus) -> Record:
        found = model_events.snapshot(status)
        return Record(self._number, status.name, found.event, found.data, status, found.info)

    def _tell(self, record: Record) -> None:
        self._kept.append(record)
        if len(self._kept) > KEPT:
            self._floor = self._kept.popleft().number
        for reader in self._readers:
            reader.give(record)


def _front(model: str, known: Mapping[str, ModelStatus]) -> ModelStatus:
    """How the model is, by its name."""
    ordered = sorted(known.values(), key=lambda status: replicas.number(status.name))
    found = replicas.front(ordered, {status.name for status in ordered if status.suspended})
    return found if found.name == model else replace(found, name=model)


def _shown_to(record: Record, sees: Sees) -> bool:
    return record.model == EVERYBODY or sees(record.model)


class Reader:
    """What waits for one client. A new progress replaces the one before it, so that a slow client costs little."""

    def __init__(self, sees: Sees) -> None:
        self.closed = False
        self._sees = sees
        self._waiting: list[Record] = []
        self._some = asyncio.Event()

    def give(self, record: Record) -> None:
        if self.closed or not _shown_to(record, self._sees):
            return
        if record.progress:
            self._waiting = [each for each in self._waiting if not (each.progress and each.model == record.model)]
        if len(self._waiting) >= BACKLOG:
            self.close()  # full: the client pays, and comes back for a snapshot
        else:
            self._waiting.append(record)
            self._some.set()

    def close(self) -> None:
        """What waits is dropped; `take` gives nothing more."""
        self.closed = True
        self._waiting = []
        self._some.set()

    async def take(self) -> list[Record]:
        """What has come, as soon as something has; empty: the end."""
        await self._some.wait()
        self._some.clear()
        found, self._waiting = self._waiting, []
        return found
