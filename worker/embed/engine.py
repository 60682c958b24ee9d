"""The loop between inputs and vectors: receive → pack → compute → emit. ENGINE.md, 16.

Runs in the main thread, does no I/O, and sleeps on its inbox when nothing is to be computed. A batch holds inputs of
any requests, first come first served; nothing of it is kept for the next one.
"""

from __future__ import annotations

import itertools
import logging
import queue
import time
from collections import deque

from supervisor.control import Phase
from supervisor.log import facts
from worker.cost import CostCurve
from worker.embed import packing
from worker.embed.context import MAX_IDS, EmbedContext
from worker.embed.work import Work
from worker.failure import EngineError
from worker.protocol import Event, Failed
from worker.seams import (
    Crowd,
    Drop,
    Errand,
    Filing,
    Inbox,
    Job,
    Key,
    Leave,
    Load,
    Order,
    Outbox,
    Passages,
    Vitals,
    Wear,
)  # fmt: skip
from worker.turns import Turn

_log = logging.getLogger(__name__)
_LEAST = 64  # rows of a batch; fewer are slower (ENGINE.md, 4)
_LONGEST = 0.5  # seconds of a batch: so long a cancel may have to wait, and rows that take longer gain nothing


class EmbedCore:
    """Batches over one context. `step` is public so that tests and benchmarks can drive it."""

    def __init__(
        self,
        context: EmbedContext,
        normalize: int,
        costs: CostCurve,
        turn: Turn | None,
        budget: float,
        outbox: Outbox,
        vitals: Vitals,
    ) -> None:
        """`normalize` is Model.embd_normalize; `budget` is Model.prefill_time in seconds."""
        self.context, self.vitals = context, vitals
        self.works: deque[Work] = deque()  # first come first; bounded like the inbox
        self._normalize, self._costs, self._turn, self._budget = normalize, costs, turn, budget
        self._outbox = outbox
        self._adapters = context.worn.now  # as configured; another set from the next input on
        self._events: dict[int, list[Event]] = {}
        self._leave_at = float("inf")

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self, inbox: Inbox) -> None:
        """Serves until a Leave order is fulfilled. Raises EngineError."""
        while self._leave_at == float("inf") or self.works:
            self.receive(inbox)
            self.step()

    def receive(self, inbox: Inbox) -> None:
        """Takes all orders; waits for one if nothing is to be computed."""
        try:
            order = inbox.get(block=not self.works)
            while True:
                self.obey(order)
                order = inbox.get_nowait()
        except queue.Empty:
            pass

    def obey(self, order: Order) -> None:
        match order:
            case Passages():
                normalize = -1 if self.context.pooling == "none" else self._normalize
                self.works.append(Work(order, normalize))
            case Filing(key):
                self._events.setdefault(key[0], []).append(order.refused())
            case Drop(key):
                self._drop(key)
            case Wear(adapters):
                self._adapters = adapters
            case Crowd(count):
                if self._turn:
                    self._turn.crowd = count
            case Leave(at):
                self._leave_at = at
            case Job() | Errand() | Load():
                raise AssertionError(f"no order for a worker that embeds: {type(order).__name__}")

    def step(self) -> None:
        """One batch, if there is anything to compute."""
        if self._leave_at < float("inf"):
            self._cut()
        if self.works:
            self._compute()
            self.vitals.steps += 1
        self._report()
        self._emit()

    # -- its parts ------------------------------------------------------------------------------------------------

    def _compute(self) -> None:
        first = self.works[0]
        length = len(first.passages.inputs[first.next])
        if self.context.split and (first.offset or length > self._rows):
            self._compute_part(first)
            return
        batch = self._pack()
        seconds = self._batch(batch)
        if seconds is None and len(batch) > 1:  # one of them may be what fails: each alone
            for work in batch:
                if work in self.works and self._batch([work]) is None:
                    self._fail(work)
        elif seconds is None:
            self._fail(batch[0])

    @property
    def _rows(self) -> int:
        """The most rows of a batch of several inputs, or of a part of one."""
        seconds = _LONGEST
        if self._turn is not None and self._turn.shared:
            seconds = self._turn.budget(min(self._budget, seconds))
        return self._costs.most(seconds, min(_LEAST, self.context.rows), self.context.rows)

    def _pack(self) -> list[Work]:
        """The requests of the next inputs, in order; a request with several inputs occurs several times."""
        waiting = itertools.chain.from_iterable(
            ((work, length) for length in work.lengths) for work in self.works
        )  # fmt: skip
        ahead = list(itertools.islice(waiting, MAX_IDS))
        taken = packing.count((length for _, length in ahead), self._rows, MAX_IDS)
        return [work for work, _ in ahead[:taken]]

    def _batch(self, batch: list[Work]) -> float | None:
        """Computes the next inputs of these requests and sends their vectors; the seconds, None if it failed."""
        parts, ahead = [], dict.fromkeys(batch, 0)
        for work in batch:
            parts.append(work.passages.inputs[work.next + ahead[work]])
            ahead[work] += 1
            self._begin(work)
        self._begin_anew()
        self.context.fill(parts)
        if (seconds := self._decode()) is None:
            return None
        every = self.context.every() if self.context.pooling == "none" else None
        for work in ahead:
            work.spent(seconds)
        self._count(len(ahead), sum(map(len, parts)), seconds)
        at = 0
        for number, (work, part) in enumerate(zip(batch, parts, strict=True)):
            self._post(work, work.take(self.context.pooled(number) if every is None else every[at : at + len(part)]))
            at += len(part)
        self.works = deque(work for work in self.works if not work.done)
        return seconds

    def _compute_part(self, work: Work) -> None:
        """The next part of an input that is longer than a batch; what was computed of it stays in the cache."""
        tokens = work.passages.inputs[work.next]
        if work.offset == 0:
            self._begin(work)
            self._begin_anew()
        part = tokens[work.offset : work.offset + self._rows]
        self.context.fill([part], work.offset)
        if (seconds := self._decode()) is None:
            self._fail(work)
            return
        work.spent(seconds)
        self._count(1, len(part), seconds)
        rows = self.context.every() if self.context.pooling == "none" else None
        if work.offset + len(part) < len(tokens):
            work.kept(rows, len(part))
            return
        self._post(work, work.take(self.context.pooled(0) if rows is None else rows))
        if work.done:
            self.works.popleft()

    def _begin_anew(self) -> None:
        """Nothing of what was computed counts any more."""
        self.context.clear()
        self.context.worn.change(self._adapters)

    def _decode(self) -> float | None:
        """Seconds the batch took, None if it failed."""
        rows = self.context.row_count
        self.vitals.expected = self._costs.predict(rows)
        if self._turn is not None and self._turn.shared:
            self.vitals.phase = Phase.TURN
            with self._turn:
                return self._timed(rows)
        return self._timed(rows)

    def _timed(self, rows: int) -> float | None:
        self.vitals.phase = Phase.PREFILL
        began = time.monotonic()
        if code := self.context.compute():
            _log.warning("batch failed %s", facts(code=code, rows=rows))
            return None
        seconds = time.monotonic() - began
        self._costs.add(rows, seconds)
        return seconds

    def _begin(self, work: Work) -> None:
        if not work.begun:
            self.vitals.meters.begun(work.passages.arrived, 0)
        self._post(work, work.begin())

    def _count(self, requests: int, rows: int, seconds: float) -> None:
        self.vitals.meters.stepped(0, requests, rows, rows, seconds, time.monotonic())

    # -- ends -----------------------------------------------------------------------------------------------------

    def _fail(self, work: Work) -> None:
        """One request fails. Raises EngineError if not even one token can be computed any more."""
        self._post(work, [Failed(work.id, "internal_error", "the model could not compute this request")])
        self.works.remove(work)
        self.context.clear()
        self.context.fill([[0]])
        if code := self.context.compute():
            self._emit()
            raise EngineError(f"llama_decode fails with code {code} even for one token")

    def _drop(self, key: Key) -> None:
        self.works = deque(work for work in self.works if work.passages.key != key)

    def _cut(self) -> None:
        """Leaving: who waits goes now, who has begun may finish until the deadline."""
        late = time.monotonic() >= self._leave_at
        gone = [work for work in self.works if late or not work.begun]
        for work in gone:
            self._post(work, [Failed(work.id, "model_unloaded", "the model is being unloaded")])
        self.works = deque(work for work in self.works if work not in gone)

    # -- what others see ------------------------------------------------------------------------------------------

    def _post(self, work: Work, events: list[Event]) -> None:
        if events:
            self._events.setdefault(work.passages.key[0], []).extend(events)

    def _emit(self) -> None:
        for link, events in self._events.items():
            self._outbox.put(link, events)
        self._events.clear()

    def _report(self) -> None:
        begun = sum(work.begun for work in self.works)
        self.vitals.active, self.vitals.queued = begun, len(self.works) - begun
        if not self.works:
            self.vitals.phase = Phase.IDLE
            self.vitals.expected = 0.0
