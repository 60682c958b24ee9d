"""The loop between prompts and deltas: receive → admit → plan → decode → sample → send. ENGINE.md, 2.

Runs in the main thread, does no I/O, and sleeps on its inbox when nothing is to be computed.
"""

from __future__ import annotations

import queue
import time
from dataclasses import replace

from supervisor.config import Sampling
from supervisor.control import Phase
from worker import adapter_set, cores, decoding
from worker.adapter_set import BARE, AdapterSet
from worker.admission import Admission, Arrival, Begun, keys
from worker.bundle import Bundle
from worker.clerk import Clerk
from worker.context import Context, Logits
from worker.cost import Beside, CostCurve
from worker.crew import Crew
from worker.failure import RequestError
from worker.parked import Parked
from worker.parking import Parking
from worker.protocol import Event, Failed
from worker.replies import Replies, bequeath
from worker.reply import Reply
from worker.scheduler import Limits, plan
from worker.seams import (
    Conclude,
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
from worker.sequences import Pool
from worker.turns import Turn

_LEARN = 8  # one of so many steps without a prompt tells what such a step costs
_PROTECTED = 3  # times a reply may be interrupted, as long as another can be


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
        parked: Parked | None = None,
        patience: float = 0.0,
        adapters: AdapterSet = BARE,
    ) -> None:
        """`defaults` are the model's effective sampling parameters; `adapters` is what most requests are computed with.

        In seconds: `budget` is Model.prefill_time, `patience` Model.stream_delay.
        """
        self.context, self.vitals = context, vitals
        self.pool = Pool(context.memory, context.ids, context.cells, context.n_ctx, context.parallel)
        parked = Parked(0, exact=context.memory.exact) if parked is None else parked
        self.parking = Parking(self.pool, context.memory, parked)
        self.waiting = Admission(self.pool, self.parking, context.parallel)
        self.running: list[Reply] = []  # first come first; without choices that wait for their leader
        self._replies = Replies(context, self.pool, defaults)
        self._costs, self._turn = costs, turn
        self._limits = Limits(context.n_batch, context.n_ubatch, budget)
        self._crew = Crew(context.model.vocabulary.size, cores.physical())
        self._decoder = decoding.Decoder(context, self.pool)
        self._adapters = adapters
        self._turns = adapter_set.Turns() if len(context.model.adapters) else None
        self._bundle = Bundle(outbox, patience)
        self.clerk: Clerk | None = None  # keeps states of slots in files
        self.leave_at = float("inf")  # monotonic seconds: what runs then is cut off
        vitals.places.open(context.parallel, context.n_ctx)

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
    def _idle(self) -> bool:
        """Whether nothing can be done until an order comes: who waits may do so for a slot that comes back."""
        returning = self.clerk is not None and self.clerk.returning
        return not self.running and (returning or not self.waiting)

    @property
    def _done(self) -> bool:
        return self.leave_at < float("inf") and not self.busy

    @property
    def _begun(self) -> list[Reply]:
        """Every reply that has a sampler: running, waiting for its leader's prompt, or interrupted."""
        leaders = [*self.running, *self.waiting.replies]
        return [each for leader in leaders for each in (leader, *leader.siblings)]

    def receive(self, inbox: Inbox) -> None:
        """Takes all orders; waits for one if nothing runs."""
        try:
            order = inbox.get(block=self._idle)
            while True:
                self.obey(order)
                if isinstance(order, Errand):
                    return  # the next part has to wait for a step of those that run
                order = inbox.get_nowait()
        except queue.Empty:
            pass

    def obey(self, order: Order) -> None:
        match order:
            case Job():
                said = order.request.lora
                self.waiting.add(order, self._adapters if said is None else adapter_set.of(said))
            case Filing():
                self._file(order)
            case Errand():
                order.run()
            case Wear(adapters):
                self._adapters = adapters
            case Drop(key):
                self._drop(key)
            case Conclude(key):
                self.waiting.conclude(key)
                for reply in self._begun:
                    if reply.job.key == key:
                        reply.conclude()
            case Crowd(count):
                if self._turn:
                    self._turn.crowd = count
            case Leave(at):
                self.leave_at = at
            case Load() | Passages():
                raise AssertionError(f"no order for a worker that generates: {type(order).__name__}")

    def _file(self, order: Filing) -> None:
        if self.clerk is not None:
            self.clerk.take(order)
        else:
            self._bundle.add(order.key[0], [order.refused()])

    def step(self) -> None:
        """One decode, if there is anything to compute."""
        self._admit()
        if self.leave_at < float("inf"):
            self._cut()
        if self.running:
            self._compute()
            self.vitals.steps += 1
        self._report()
        if self._idle or self._bundle.due(0.0):
            self._bundle.send()

    # -- its parts ------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        while (begun := self.waiting.next(self.running)) is not None:
            if isinstance(begun.work, Arrival):
                reply = self._begin(begun.work.job, begun)
            else:
                reply = begun.work
                reply.sequence = begun.sequence
            reply.stops = list(begun.stops)
            self.running.append(reply)

    def _begin(self, job: Job, begun: Begun) -> Reply:
        self.vitals.meters.begun(job.arrived, begun.cached)
        replies = self._replies.make(job, begun.sequence, begun.cached)
        for reply in replies:
            self.vitals.places.enter(reply)
            self._post(reply, [reply.started()])
        return replies[0]

    def _compute(self) -> None:
        """Plans, decodes and samples one batch."""
        self._make_room()
        running = self.running if self._turns is None else self._of_one_set(self._turns)
        decoding_now = [reply for reply in running if reply.decoding]
        reach = sum([reply.sequence.held for reply in decoding_now])
        filled = self._chunks(running, len(decoding_now), reach) if len(decoding_now) < len(running) else []
        last = self.context.fill(
            [reply.sequence for reply in decoding_now], [(reply.sequence, rows) for reply, rows in filled]
        )
        rows = self.context.rows
        if filled:
            reach += sum(count * (reply.sequence.held + count // 2) for reply, count in filled)
        self.vitals.expected = self._costs.predict(rows, reach)
        if self._bundle.due(self.vitals.expected):
            self._bundle.send()
        seconds = self._decode(decoding_now, filled)
        if seconds is None:
            return
        decoded = time.monotonic()
        prompts = [count for reply, count in filled if not reply.n_out]  # the others' are computed once more
        if filled or self.vitals.steps % _LEARN == 0:
            self._costs.add(rows, seconds, reach)
        ready = list(zip(decoding_now, last, strict=False))
        for reply in decoding_now:
            self._commit(reply, 1)
        for (reply, count), index in zip(filled, last[len(decoding_now) :], strict=True):
            self._commit(reply, count)
            self._post(reply, reply.progressed(count, seconds))
            if not reply.sequence.missing:
                self._resume(reply)
                siblings = self._replies.part(reply)
                self.running += siblings
                ready += [(each, index) for each in (*siblings, reply)]
        self._sample(ready)
        if self._bundle.due(self.vitals.expected):  # the proxy has a core while this step's rest needs but one
            self._bundle.send()
        self.vitals.meters.stepped(len(decoding_now), len(prompts), sum(prompts), rows, seconds, decoded)
        self.running = [reply for reply in self.running if not reply.reason]

    def _resume(self, reply: Reply) -> None:
        """An interrupted reply has all its cells again: its next token comes now."""
        if reply.n_out:
            self.vitals.meters.resumed(reply.interrupted_at)

    def _of_one_set(self, turns: adapter_set.Turns) -> list[Reply]:
        """Those whose turn it is: a batch has one set of adapters."""
        wanted = turns.next((reply.sequence.adapters for reply in self.running), time.monotonic())
        self.context.worn.change(wanted)
        return [reply for reply in self.running if reply.sequence.adapters == wanted]

    def _chunks(self, running: list[Reply], decoding_now: int, reach: int) -> list[tuple[Reply, int]]:
        """Who of these prefills in this step, beside so many rows with such a reach, and how many rows.

        At least one of them has tokens to compute.
        """
        prefilling = [reply for reply in running if not reply.decoding]
        prefilling.sort(key=lambda reply: -reply.job.request.priority)
        limits, shared = self._limits, len(running) < len(self.running)
        if self._turn is not None and self._turn.shared:
            limits, shared = replace(limits, budget=self._turn.budget(limits.budget)), True
        room = self.pool.most_room - decoding_now
        needs = [reply.chunk for reply in prefilling]
        beside = Beside(decoding_now, reach, prefilling[0].sequence.held)
        chunks = plan(needs, limits, self._costs, beside, shared=shared, room=room)
        self.pool.make_room(decoding_now + sum(chunk.rows for chunk in chunks))
        return [(prefilling[chunk.index], chunk.rows) for chunk in chunks]

    def _commit(self, reply: Reply, rows: int) -> None:
        """So many rows of the reply are in the cache now."""
        self.pool.commit(reply.sequence, rows)
        if reply.n_out:
            self.waiting.line.serve(reply.job.request.owner, rows)
        if reply.stops and reply.stops[0] == reply.sequence.held:
            reply.stops.pop(0)
            self.pool.mark(reply.sequence, self.context.memory.checkpoint(reply.sequence.id))

    def _decode(self, decoding_now: list[Reply], filled: list[tuple[Reply, int]]) -> float | None:
        """Seconds the batch took; None if it came to nothing and the requests it hurt have been answered."""
        busy = Phase.PREFILL if filled else Phase.DECODE
        if self._turn is not None and self._turn.shared:
            self.vitals.phase = Phase.TURN
            self._bundle.send()  # nobody knows when the turn comes
            with self._turn:
                return self._decode_now(decoding_now, filled, busy)
        return self._decode_now(decoding_now, filled, busy)

    def _decode_now(self, decoding_now: list[Reply], filled: list[tuple[Reply, int]], phase: Phase) -> float | None:
        self.vitals.phase = phase
        began = time.monotonic()
        outcome = self._decoder.decode()
        if outcome is decoding.Outcome.DONE:
            return time.monotonic() - began
        if outcome is decoding.Outcome.RETRY or (outcome is decoding.Outcome.NO_ROOM and self._interrupt_one()):
            return None
        if outcome is decoding.Outcome.ABORTED:
            self._count_what_is_there()
            return None
        for reply in [*decoding_now, *(reply for reply, _ in filled)]:
            self._fail(reply, RequestError("internal_error", "the model could not compute this request"))
        self._decoder.check()
        return None

    def _sample(self, ready: list[tuple[Reply, int]]) -> None:
        """The next token of each sequence whose tokens are all in the cache."""
        rows = [(reply, self.context.logits(index)) for reply, index in ready if reply.limit]
        together = [(reply.sampler, row) for reply, row in rows if not reply.job.request.post_sampling_probs]
        tokens = iter(self._crew.draw(together))
        for reply, row in rows:  # what the samplers left over is read before another one draws
            alone = reply.job.request.post_sampling_probs
            self._take(reply, row, self._crew.draw([(reply.sampler, row)])[0] if alone else next(tokens))
        for reply, _ in ready:
            if not reply.limit:
                self._advance(reply, reply.prefilled())

    def _take(self, reply: Reply, row: Logits, token: int | RequestError) -> None:
        if isinstance(token, RequestError):
            self._fail(reply, token)
            return
        self.vitals.meters.predicted_tokens += 1
        wanted = reply.probabilities
        self._advance(reply, reply.take(token, wanted.of(row, token, reply.sampler) if wanted else None))

    def _advance(self, reply: Reply, events: list[Event]) -> None:
        self._post(reply, events)
        if reply.reason:
            self._release(reply)

    def _count_what_is_there(self) -> None:
        """After an abort: of a batch in several parts the first ones may have been computed."""
        for reply in self.running:
            done = self.context.memory.held(reply.sequence.id) - reply.sequence.held
            if done > 0:
                self.pool.commit(reply.sequence, done)

    # -- room -----------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """A cell for each sequence that decodes, and one for the prompts; interrupts replies until there are."""
        while self.pool.room <= len(self.running):
            decoding_now = sum(reply.decoding for reply in self.running)
            needed = decoding_now + (decoding_now < len(self.running))
            if self.pool.make_room(needed) or not self._interrupt_one():
                return

    def _interrupt_one(self) -> bool:
        """The least important of several replies, the latest of these, gives up its cells and goes on later.

        One alone goes before a slot that comes back.
        """
        if len(self.running) < 2:
            return self.clerk is not None and self.clerk.give_way()
        victim = min(
            reversed(self.running),
            key=lambda reply: (reply.interrupted >= _PROTECTED, reply.job.request.priority),
        )
        self.running.remove(victim)
        self.parking.save(victim.sequence.id)
        self.pool.close(victim.sequence, keep=False)
        victim.interrupted += 1
        victim.interrupted_at = self.vitals.meters.stepped_at
        self.waiting.add_again(victim)
        return True

    # -- ends -----------------------------------------------------------------------------------------------------

    def _release(self, reply: Reply, *, keep: bool = True) -> None:
        reply.sampler.close()
        self.vitals.places.leave(reply)
        self.vitals.meters.left(reply.sequence.held)
        if reply.sequence.id >= 0:
            self.pool.close(reply.sequence, keep=keep and reply.job.request.cache_prompt)

    def _fail(self, reply: Reply, error: RequestError) -> None:
        for sibling in reply.siblings:
            self._post(sibling, [Failed(sibling.job.key[1], error.code, str(error), error.fields)])
            self._release(sibling, keep=False)
        self._post(reply, [Failed(reply.job.key[1], error.code, str(error), error.fields)])
        reply.reason = "failed"
        self._release(reply, keep=False)
        self.running.remove(reply)

    def _drop(self, key: Key) -> None:
        self.waiting.drop(key)
        if self.clerk is not None:
            self.clerk.drop(key)
        for leader in [*self.running, *self.waiting.replies]:
            for sibling in [each for each in leader.siblings if each.job.key == key]:
                leader.siblings.remove(sibling)
                self._release(sibling)
            if leader.job.key == key:
                self._replace(leader, bequeath(leader) if leader.siblings else None)
                self._release(leader)

    def _replace(self, leader: Reply, heir: Reply | None) -> None:
        """Its place, among those that run or that wait, is another's or nobody's."""
        if leader not in self.running:
            self.waiting.replace(leader, heir)
        elif heir is None:
            self.running.remove(leader)
        else:
            self.running[self.running.index(leader)] = heir

    def _cut(self) -> None:
        """Leaving: who waits goes now, who runs may finish until the deadline."""
        gone = self.waiting.clear()
        if time.monotonic() >= self.leave_at:
            gone += self.running
            self.running.clear()
        ends = [key for work in gone for key in keys(work)] + (self.clerk.close() if self.clerk else [])
        for leader in [work for work in gone if isinstance(work, Reply)]:
            for reply in (leader, *leader.siblings):
                self._release(reply)
        for link, id in ends:
            self._bundle.add(link, [Failed(id, "model_unloaded", "the model is being unloaded")])

    # -- what others see ------------------------------------------------------------------------------------------

    def _post(self, reply: Reply, events: list[Event]) -> None:
        if events:
            self._bundle.add(reply.job.key[0], events, urgent=reply.n_out <= 1)

    def _report(self) -> None:
        self.vitals.active, self.vitals.queued = len(self.running), len(self.waiting)
        if not self.busy:
            self.waiting.line.forget(set())
            self.vitals.phase = Phase.IDLE
            self.vitals.expected = 0.0
