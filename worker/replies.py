"""Replies and their choices: made from jobs, joined while their prompt is computed, parted afterwards. ENGINE.md, 4."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from supervisor.config import Sampling
from worker.context import Context
from worker.reply import Reply
from worker.sampling import RANDOM_SEED, Sampler
from worker.seams import Job
from worker.sequences import Pool, Sequence


class Replies:
    """Makes replies on one context. `defaults` are the model's effective sampling parameters."""

    def __init__(self, context: Context, pool: Pool, defaults: Sampling) -> None:
        self._vocabulary, self._n_ctx = context.model.vocabulary, context.n_ctx
        self._pool, self._defaults = pool, defaults

    def make(self, job: Job, sequence: Sequence, cached: int) -> list[Reply]:
        """The reply of a job, then its siblings: choices that wait until its prompt is in the cache."""
        leader = self._make(job, sequence, cached)
        leader.siblings = [self._sibling(leader, index) for index in range(1, len(job.keys))]
        return [leader, *leader.siblings]

    def part(self, leader: Reply) -> list[Reply]:
        """The prompt is computed: the siblings go on from it, each with its own draw from the same logits."""
        siblings, leader.siblings = leader.siblings, []
        for reply in siblings:
            self._pool.share(leader.sequence, reply.sequence)
        return siblings

    def _make(self, job: Job, sequence: Sequence, cached: int) -> Reply:
        parameters = job.request.sampling.over(self._defaults)
        guide = job.guides[0] if job.guides else None
        sampler = Sampler(parameters, self._vocabulary, self._n_ctx, guide)
        sampler.remember(np.asarray(job.prompt, np.int32))
        limit = -1 if parameters.max_tokens is None else parameters.max_tokens
        return Reply(job, sequence, cached, sampler, limit, self._vocabulary)

    def _sibling(self, leader: Reply, index: int) -> Reply:
        """The prompt counts as the leader's; the seeds follow on the leader's."""
        sequence = self._pool.reserve()
        assert sequence is not None, "choices of one request begin together"
        seed = (leader.sampler.seed + index) % RANDOM_SEED
        sampling = replace(leader.job.request.sampling, seed=seed)
        request = replace(leader.job.request, sampling=sampling, return_progress=False, siblings=())
        reply = self._make(leader.job.sibling(index, request), sequence, 0)
        reply.sampler.remember(np.asarray(leader.job.prompt, np.int32))
        return reply


def bequeath(leader: Reply) -> Reply:
    """The leader goes before its prompt is computed: the first sibling takes over its sequence."""
    heir, *rest = leader.siblings
    heir.siblings, leader.siblings = rest, []
    heir.sequence, leader.sequence = leader.sequence, heir.sequence
    heir.stops, leader.stops = leader.stops, []
    return heir
