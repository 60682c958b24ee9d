"""The way in to one model: requests pass at once when it is ready, else they wait here, first come first served.

Behind it are the model's replicas, one or several; a request goes to the one that affinity chooses.

The root decides what loads and what goes; a gate only says what is wanted, and mirrors what the root says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from proxy.affinity import Affinity, Trail
from proxy.errors import ApiError, BadRequest
from proxy.generation import Generation, Lease, Moved, Report
from proxy.hall import Hall
from proxy.quarantine import Quarantine
from proxy.refusals import failure, queue_full, queue_timeout, unloaded
from proxy.replica import Replica
from supervisor import replicas
from supervisor.config import Config
from supervisor.control import Blamed, Lost, ModelStatus, State, Unwant, Want

UNLOADED = "unloaded"  # the cause of a loss that was planned


@dataclass
class Wait:
    """One request's wait. `limit` and `stalled` are for its stream; times are monotonic seconds."""

    limit: int
    stalled: Callable[[], None]
    autoload: bool = True
    admin: bool = False
    priority: int = 0
    trail: Trail = ()
    slot: int = -1  # of the model's, as GET /slots counts them: where it would like to run
    began: float = 0.0
    load_ms: float = 0.0


class Gate:
    """Admission to one model. Its queue is bounded, and so are all together; full: the new request gets 429."""

    def __init__(self, config: Config, status: ModelStatus, report: Report, hall: Hall) -> None:
        self.name = status.name
        self.replicas = {status.name: Replica(status)}
        self.status = status
        self._affinity = Affinity()
        self._spreading = False
        self.quarantine = Quarantine(lambda digest: report(Blamed(status.name, digest)))
        self._config, self._report, self._hall = config, report, hall
        self._wanted: int | None = None  # the priority that the root was told, if it was
        self._queue: deque[tuple[asyncio.Future[Lease], Wait]] = deque()
        self._watchers: list[asyncio.Future[None]] = []
        self._refusal: Callable[[], ApiError] | None = None
        self._load_began: float | None = None

    # -- for requests -------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.replicas.values())

    @property
    def several(self) -> bool:
        """Whether there is more than one replica, loaded or not."""
        return len(self.replicas) > 1

    @property
    def current(self) -> Generation | None:
        """Where requests go, of the replica that speaks for the model."""
        return self._front.current

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def waiting(self) -> int:
        """Requests that wait here, and those that wait in a worker for a sequence."""
        return len(self._queue) + self._beyond

    @property
    def oldest_wait(self) -> float:
        """Seconds that the first in the queue has waited; 0 if nobody waits."""
        return time.monotonic() - self._queue[0][1].began if self._queue else 0.0

    @property
    def admits(self) -> bool:
        return not self._refusal and any(replica.admits for replica in self.replicas.values())

    @property
    def expires_at(self) -> float | None:
        """The Unix time at which it is unloaded if nobody uses it, as far as this proxy knows; None: never by time."""
        if self.status.idle_timeout < 0 or self.current is None:
            return None
        return (time.time() if self.in_flight else self.current.last_used) + self.status.idle_timeout

    def reconfigure(self, config: Config) -> None:
        """Other limits, from now on."""
        self._config = config

    async def acquire(self, wait: Wait) -> Lease:
        """A lease on the model: at once if it is ready, else when the root has attached it. Raises ApiError."""
        wait.began = time.monotonic()
        if self.admits and not self._queue:
            return self._admit(wait)
        self._check(wait)
        return await self._wait(wait)

    def position(self, wait: Wait) -> str:
        """What a waiting client may be told: `loading 0.42`, or `queued 3` if it is the third; ` eta 2.5`: seconds."""
        rest = self._hall.ready_in(self.name, self.oldest_wait)
        eta = "" if rest is None or self.admits else f" eta {rest:.1f}"
        if self.status.state is State.LOADING:
            return f"loading {self.status.progress:.2f}{eta}"
        if self.status.state is State.DOWNLOADING:
            return f"downloading {self.status.progress:.2f}"
        return f"queued {self.place(wait) or self.queued + 1}{eta}"

    def place(self, wait: Wait) -> int | None:
        """Its place in the queue, from 1; None if it does not wait here."""
        return next((place for place, entry in enumerate(self._queue, 1) if entry[1] is wait), None)

    def dismiss(self, wait: Wait, error: ApiError) -> bool:
        """Ends one wait with this error; False if it does not wait here."""
        for future, waiting in self._queue:
            if waiting is wait and not future.done():
                future.set_exception(error)
                return True
        return False

    def slot(self, number: int) -> tuple[Generation, int]:
        """Where a slot is, as GET /slots counts them over the replicas that are loaded, and its number there.

        Raises ApiError: model_not_loaded, invalid_value.
        """
        if self._refusal:
            raise self._refusal()
        count = 0
        for replica, generation, first in self._rows():
            if first <= number < first + replica.slots and generation.admits:
                return generation, number - first
            count = first + replica.slots
        if number < count or not count:
            raise ApiError("model_not_loaded", f"{self.name} is not loaded: it has no slots now", param="model")
        raise BadRequest(f"id: expected integer from 0 to {count - 1}, got {number}", "id")

    async def settled(self, states: set[State]) -> None:
        """Waits until the root reports one of these states. Raises LoadFailed if the load fails meanwhile."""
        while self.status.state not in states:
            if State.READY in states and (error := self._failure(fresh=True)):
                raise error
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            try:
                await watcher
            finally:
                if watcher in self._watchers:  # it gave up before anything changed
                    self._watchers.remove(watcher)

    # -- for the root's messages --------------------------------------------------------------------------------------

    def change(self, status: ModelStatus) -> None:
        """The root's word on the model's state."""
        if (replica := self.replicas.get(status.name)) is None:
            self.open(status)
        else:
            replica.status = status
        self._look()
        if self._queue and self._failure(fresh=True):
            self._dismiss(lambda wait: self._failure(fresh=True, admin=wait.admin))
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
        self.serve()

    def open(self, status: ModelStatus) -> None:
        """One more replica there may be."""
        known = {**self.replicas, status.name: Replica(status)}
        self.replicas = dict(sorted(known.items(), key=lambda item: item[1].number))

    def close(self, name: str) -> None:
        """A further replica is there no more."""
        self.replicas.pop(name, None)
        self._look()

    def attach(self, generation: Generation) -> None:
        """A new link, on which requests go from now on."""
        replica = self.replicas[generation.model]
        replica.generations[generation.number] = replica.current = generation

    def spread(self) -> None:
        """Requests that wait in one worker go to another that has a place for them."""
        if not self.several or self._refusal or self._spreading:
            return
        self._spreading = True  # a lease that ends calls this
        places = sum(replica.free for replica in self.replicas.values())
        waiting = [lease for replica in self.replicas.values() for lease in replica.waiting()]
        for lease in waiting[:places]:
            lease.stream.fail(Moved())
            lease.release()
        self._spreading = False

    def serve(self) -> None:
        """Admits those who wait, in their order, if the model admits."""
        if self._queue and self.admits:
            self._wanted = None  # the root has seen to it
        while self._queue and self.admits:
            future, wait = self._queue.popleft()
            if future.done():
                continue
            try:
                future.set_result(self._admit(wait))
            except ApiError as error:
                future.set_exception(error)

    def lost(self, order: Lost) -> None:
        """The root has forgotten who waits: they are told, or wanted anew where the next generation is theirs."""
        planned = order.cause == UNLOADED and self.replicas[order.model].status.state is not State.STOPPING
        if planned and order.model == self.name:
            self._dismiss(lambda wait: unloaded(self.name, order.message))
        elif self._queue:
            self._wanted = None
            self._tell()

    def refuse(self, refusal: Callable[[], ApiError]) -> None:
        """From now on everybody is turned away, those who wait included."""
        self._refusal = refusal
        self._dismiss(lambda wait: refusal())

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check(self, wait: Wait) -> None:
        """Raises what can be said at once about a request that would have to wait."""
        if self._refusal:
            raise self._refusal()
        if error := self._failure(fresh=False, admin=wait.admin):
            raise error
        if self.status.state is State.UNLOADED and not wait.autoload:
            raise ApiError("model_not_loaded", f"{self.name} is not loaded, and autoload is off", param="model")
        self._bound(len(self._queue))

    async def _wait(self, wait: Wait) -> Lease:
        future: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        entry = (future, wait)
        self._queue.append(entry)
        self._tell()
        seconds = self._config.admission.queue_timeout
        try:
            async with asyncio.timeout(seconds):
                lease = await future
        except TimeoutError:
            raise queue_timeout(self.name, seconds, self.status.blocked_by) from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release()  # admitted and gone in the same turn of the loop
            raise
        finally:
            self._leave(entry)
        if self._load_began is not None:
            wait.load_ms = max(0.0, time.monotonic() - max(self._load_began, wait.began)) * 1000
        return lease

    def _tell(self) -> None:
        """Tells the root that requests wait, or none any more, and how important they are, if that has changed."""
        highest = max((wait.priority for _, wait in self._queue), default=None)
        if highest != self._wanted:
            self._report(Unwant(self.name) if highest is None else Want(self.name, highest))
            self._wanted = highest

    @property
    def _beyond(self) -> int:
        """Requests with a lease for which their worker has no sequence left."""
        return sum(replica.beyond for replica in self.replicas.values())

    def _bound(self, queued: int) -> None:
        """Raises queue_full if nobody may wait beside those `queued` here and all at other models."""
        if queued >= self._hall.most_each:
            raise queue_full(self.name, queued, self._config.admission.max_queue)
        if (waiting := self._hall.waiting) >= self._hall.most:
            raise queue_full(None, waiting, self._config.admission.max_queue_total)

    def _leave(self, entry: tuple[asyncio.Future[Lease], Wait]) -> None:
        """The last one who waited and leaves takes the want along."""
        if entry in self._queue:
            self._queue.remove(entry)
            if not self._refusal:
                self._tell()

    def _admit(self, wait: Wait) -> Lease:
        ready = [replica for replica in self.replicas.values() if replica.admits]
        if self.several:
            ready = [self._affinity.choose(self._named(ready, wait.slot) or ready, wait.trail)]
        chosen = ready[0]
        assert chosen.current is not None
        if chosen.current.link.full:
            raise queue_full(self.name, self._beyond, self._config.admission.max_queue)
        if not chosen.free:
            self._bound(self._beyond)
        lease = chosen.current.admit(wait.limit, wait.stalled)
        lease.stream.first_slot = next((first for each, _, first in self._rows() if each is chosen), 0)
        return lease

    def _rows(self) -> Iterator[tuple[Replica, Generation, int]]:
        """Each replica that GET /slots has rows of, and the number of its first one."""
        count = 0
        for replica in self.replicas.values():
            if replica.current is not None and replica.current.link.admits:
                yield replica, replica.current, count
                count += replica.slots

    def _named(self, ready: list[Replica], slot: int) -> list[Replica]:
        """The one that has this slot, if it can serve; a request that would have to wait there goes elsewhere."""
        try:
            generation, _ = self.slot(slot) if slot >= 0 else (None, 0)
        except ApiError:
            return []
        anybody = any(each.free for each in ready)
        return [each for each in ready if each.current is generation and (each.free or not anybody)]

    @property
    def _front(self) -> Replica:
        if not self.several:
            return self.replicas[self.name]
        known = [replica.status for replica in self.replicas.values()]
        return self.replicas[replicas.front(known, {status.name for status in known if status.suspended}).name]

    def _look(self) -> None:
        """How the model is, after one of its replicas has changed."""
        before, status = self.status, self._front.status
        self.status = status if status.name == self.name else msgspec.structs.replace(status, name=self.name)
        if self.status.state is State.LOADING and before.state is not State.LOADING:
            self._load_began = time.monotonic()

    def _dismiss(self, error: Callable[[Wait], ApiError | None]) -> None:
        queue, self._queue = self._queue, deque()
        for future, wait in queue:
            if not future.done():
                future.set_exception(error(wait) or ApiError("internal_error", "dismissed without a reason"))
        if queue:
            self._tell()

    def _failure(self, fresh: bool, admin: bool = False) -> ApiError | None:
        return failure(self.status, self._config.admission.restart_hold, fresh, admin)
