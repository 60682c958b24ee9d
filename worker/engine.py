"""The loop between prompts and deltas: receive → admit → plan → decode → sample → emit. ENGINE.md, 2.

Runs in the main thread, does no I/O, and sleeps on its inbox when nothing is to be computed.
"""

from __future__ import annotations

import queue
import time
from collections import deque

import numpy as np
from msgspec.structs import replace

from supervisor.config import Sampling
from supervisor.control import Phase
from worker import decoding
from worker.context import Context
from worker.cost import CostCurve
from worker.failure import RequestError
from worker.protocol import Event, Failed
from worker.reply import Reply
from worker.sampling import RANDOM_SEED, Candidates, Sampler
from worker.scheduler import Limits, plan
from worker.seams import Conclude, Crowd, Drop, Inbox, Job, Key, Leave, Load, Order, Outbox, Vitals
from worker.sequences import Slot, Slots
from worker.turns import Turn


class EngineCore:
    """Continuous batching over one context. `step` is public so that tests and benchmarks can drive it."""

    def __init__(
        self,
        context: Context,
        defaults: Sampling,
        costs: CostCurve,
        turn: Turn | None,
        budget: float,
        outbox: Outbox,
        vitals: Vitals,
    ) -> None:
        """`defaults` are the model's effective sampling parameters; `budget` is Model.prefill_time in seconds."""
        self.context, self.vitals = context, vitals
        self.slots = Slots(context.parallel, context.n_ctx)
        self.waiting: deque[Job] = deque()  # bounded like the inbox
        self.running: list[Reply] = []  # first come first
        self._vocabulary = context.model.vocabulary
        self._defaults, self._costs, self._turn, self._outbox = defaults, costs, turn, outbox
        self._limits = Limits(context.n_batch, context.n_ubatch, budget)
        self._candidates = Candidates(self._vocabulary.size)
        self._decoder = decoding.Decoder(context, self.slots)
        self._events: dict[int, list[Event]] = {}
        self._leave_at = float("inf")

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self, inbox: Inbox) -> None:
        """Serves until a Leave order is fulfilled. Raises EngineError."""
        while not self._done:
            self.receive(inbox)
            self.step()

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def _done(self) -> bool:
        return self._leave_at < float("inf") and not self.busy

    def receive(self, inbox: Inbox) -> None:
        """Takes all orders; waits for one if nothing runs."""
        try:
            order = inbox.get(block=not self.busy)
            while True:
                self.obey(order)
                order = inbox.get_nowait()
        except queue.Empty:
            pass

    def obey(self, order: Order) -> None:
        match order:
            case Job():
                self.waiting.append(order)
            case Drop(key):
                self._drop(key)
            case Conclude(key):
                for reply in self.running:
                    if reply.job.key == key:
                        reply.conclude()
            case Crowd(count):
                if self._turn:
                    self._turn.crowd = count
            case Leave(at):
                self._leave_at = at
            case Load():
                raise AssertionError("a worker loads once")

    def step(self) -> None:
        """One decode, if there is anything to compute."""
        self._admit()
        if self._leave_at < float("inf"):
            self._cut()
        if self.running:
            self._compute()
            self.vitals.steps += 1
        self._report()
        self._emit()

    # -- its parts ------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self.waiting:
            job = self.waiting[0]
            if len(self.slots.idle) < len(job.keys):
                return  # choices of one request begin together
            taken = self.slots.take(job.prompt, reuse=job.request.cache_prompt)
            if taken is None:
                return
            self.waiting.popleft()
            slot, cached = taken
            self.context.cut(slot)
            parameters = job.request.sampling.over(self._defaults)
            reply = self._begin(job, slot, min(cached, slot.held), parameters)
            for index in range(1, len(job.keys)):
                reply.siblings.append(self._begin_sibling(reply, index))
            self.running.append(reply)

    def _begin(self, job: Job, slot: Slot, cached: int, parameters: Sampling) -> Reply:
        guide = job.guides[0] if job.guides else None
        sampler = Sampler(parameters, self._vocabulary, self.context.n_ctx, self._candidates, guide)
        limit = -1 if parameters.max_tokens is None else parameters.max_tokens
        reply = Reply(job, slot, cached, sampler, limit, self._vocabulary)
        sampler.remember(np.asarray(job.prompt, np.int32))
        self._post(reply, [reply.started()])
        return reply

    def _begin_sibling(self, leader: Reply, index: int) -> Reply:
        """A choice that waits until the leader's prompt is in the cache; the prompt counts as the leader's."""
        slot = self.slots.reserve()
        self.context.cut(slot)
        request = replace(leader.job.request, return_progress=False, siblings=())
        seed = (leader.sampler.seed + index) % RANDOM_SEED
        parameters = replace(request.sampling, seed=seed).over(self._defaults)
        reply = self._begin(leader.job.sibling(index, request), slot, 0, parameters)
        reply.sampler.remember(np.asarray(leader.job.prompt, np.int32))
        return reply

    def _fork(self, leader: Reply, index: int) -> None:
        """The prompt is computed: the siblings go on from it, each with its own draw from the same logits."""
        siblings, leader.siblings = leader.siblings, []
        for reply in siblings:
            self.context.copy(leader.slot, reply.slot)
        for reply in siblings:
            self.running.append(reply)
            self._sample(reply, index)

    def _bequeath(self, leader: Reply) -> Reply:
        """The leader goes before its prompt is computed: the first sibling takes over its sequence."""
        heir, *rest = leader.siblings
        heir.siblings, leader.siblings = rest, []
        heir.slot, leader.slot = leader.slot, heir.slot
        return heir

    def _compute(self) -> None:
        """Plans, decodes and samples one batch."""
        decoding_now = [reply for reply in self.running if reply.decoding]
        prefilling = [reply for reply in self.running if not reply.decoding]
        shared = self._turn is not None and self._turn.shared
        needs = [reply.slot.missing for reply in prefilling]
        chunks = plan(len(decoding_now), needs, self._limits, self._costs, shared=shared)
        filled = [(prefilling[chunk.index], chunk.rows) for chunk in chunks]
        last = self.context.fill([reply.slot for reply in decoding_now], [(reply.slot, rows) for reply, rows in filled])
        rows = self.context.rows
        self.vitals.expected = self._costs.predict(rows)
        busy = Phase.PREFILL if filled else Phase.DECODE
        if self._turn is not None and shared:
            self.vitals.phase = Phase.TURN
            with self._turn:
                seconds = self._decode(decoding_now, filled, busy)
        else:
            seconds = self._decode(decoding_now, filled, busy)
        if seconds is None:
            return
        self._costs.add(rows, seconds)
        for reply, index in zip(decoding_now, last, strict=False):
            reply.slot.held += 1
            self._sample(reply, index)
        for (reply, count), index in zip(filled, last[len(decoding_now) :], strict=True):
            reply.slot.held += count
            self._post(reply, reply.progressed(count, seconds))
            if not reply.slot.missing:
                self._fork(reply, index)
                self._sample(reply, index)
        self.running = [reply for reply in self.running if not reply.reason]

    def _decode(self, decoding_now: list[Reply], filled: list[tuple[Reply, int]], phase: Phase) -> float | None:
        """Seconds the batch took; None if it came to nothing and the requests it hurt have been answered."""
        self.vitals.phase = phase
        began = time.monotonic()
        outcome = self._decoder.decode()
        if outcome is decoding.Outcome.DONE:
            return time.monotonic() - began
        if outcome is decoding.Outcome.RETRY:
            return None
        hurt = [*decoding_now, *(reply for reply, _ in filled)]
        if outcome is decoding.Outcome.NO_ROOM:
            hurt = hurt[-1:]  # the latest gives way
        for reply in hurt:
            self._fail(reply, RequestError("internal_error", "the model could not compute this request"))
        self._decoder.check()
        return None

    def _sample(self, reply: Reply, index: int) -> None:
        """The next token of a sequence whose tokens are all in the cache."""
        if reply.limit == 0:
            events = reply.prefilled()
        else:
            row = self.context.logits(index)
            try:
                token = reply.sampler.sample(row)
            except RequestError as error:
                self._fail(reply, error)
                return
            wanted = reply.probabilities
            events = reply.take(token, wanted.of(row, token, reply.sampler) if wanted else None)
        self._post(reply, events)
        if reply.reason:
            self._release(reply)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _release(self, reply: Reply, *, keep: bool = True) -> None:
        reply.sampler.close()
        self.slots.release(reply.slot, keep=keep)

    def _fail(self, reply: Reply, error: RequestError) -> None:
        for sibling in reply.siblings:
            self._post(sibling, [Failed(sibling.job.key[1], error.code, str(error), error.fields)])
            self._release(sibling, keep=False)
        self._post(reply, [Failed(reply.job.key[1], error.code, str(error), error.fields)])
        reply.reason = "failed"
        self._release(reply, keep=False)
        self.context.cut(reply.slot)
        self.running.remove(reply)

    def _drop(self, key: Key) -> None:
        left = (job.without(key) if key in job.keys else job for job in self.waiting)
        self.waiting = deque(job for job in left if job)
        for at, reply in enumerate(self.running):
            for sibling in reply.siblings:
                if sibling.job.key == key:
                    self._release(sibling)
            reply.siblings = [sibling for sibling in reply.siblings if sibling.job.key != key]
            if reply.job.key == key:
                if reply.siblings:
                    self.running[at] = self._bequeath(reply)
                self._release(reply)
        self.running = [reply for reply in self.running if reply.job.key != key]

    def _cut(self) -> None:
        """Leaving: who waits goes now, who runs may finish until the deadline."""
        gone = [key for job in self.waiting for key in job.keys]
        self.waiting.clear()
        if time.monotonic() >= self._leave_at:
            for reply in [each for leader in self.running for each in (leader, *leader.siblings)]:
                gone.append(reply.job.key)
                self._release(reply)
            self.running.clear()
        for link, id in gone:
            failed = Failed(id, "model_unloaded", "the model is being unloaded")
            self._events.setdefault(link, []).append(failed)

    # -- what others see ------------------------------------------------------------------------------------------

    def _post(self, reply: Reply, events: list[Event]) -> None:
        if events:
            self._events.setdefault(reply.job.key[0], []).extend(events)

    def _emit(self) -> None:
        for link, events in self._events.items():
            self._outbox.put(link, events)
        self._events.clear()

    def _report(self) -> None:
        self.vitals.active, self.vitals.queued = len(self.running), len(self.waiting)
        if not self.busy:
            self.vitals.phase = Phase.IDLE
            self.vitals.expected = 0.0
