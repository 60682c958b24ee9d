"""Drawing the tokens of several sequences, spread over threads where that is worth waking them. ENGINE.md, 8.

A chain of cheap samplers takes 0.1 ms a token, one that sorts the whole vocabulary 5 ms: then two threads are nearly
twice as fast (16 sequences with a repeat penalty and no top_k: 87 → 40 ms, measured). Who draws changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from worker.failure import RequestError
from worker.sampling import Candidates, Sampler, Values

WORTH = 0.002  # seconds of work in a step; less is done sooner than shared
_MOST = 4  # threads
_WEIGHT = 0.2  # of a new measurement

Row = tuple[Sampler, Values]


class Crew:
    """The engine's thread and up to three more."""

    def __init__(self, n_vocab: int, threads: int) -> None:
        self._n_vocab, self._threads = n_vocab, min(threads, _MOST)
        self._own = Candidates(n_vocab)
        self._theirs: list[Candidates] = []
        self._pool: ThreadPoolExecutor | None = None

    def draw(self, rows: Sequence[Row]) -> list[int | RequestError]:
        """A token for each sampler and its row of logits, or why there is none."""
        if len(rows) > 1 and self._threads > 1 and sum(sampler.seconds for sampler, _ in rows) > WORTH:
            return self._share(rows)
        return [draw(sampler, logits, self._own) for sampler, logits in rows]

    def _share(self, rows: Sequence[Row]) -> list[int | RequestError]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, "sampler")
            self._theirs = [Candidates(self._n_vocab, shares=True) for _ in range(self._threads)]
        count = self._threads
        others = [self._pool.submit(_draw_all, rows[place::count], self._theirs[place]) for place in range(1, count)]
        found: list[int | RequestError] = [0] * len(rows)
        found[::count] = _draw_all(rows[::count], self._theirs[0])
        for place, other in enumerate(others, 1):
            found[place::count] = other.result()
        return found


def draw(sampler: Sampler, logits: Values, candidates: Candidates) -> int | RequestError:
    """One token; the sampler learns how long it takes."""
    began = time.perf_counter()
    try:
        return sampler.sample(logits, candidates)
    except RequestError as error:
        return error
    finally:
        sampler.seconds += _WEIGHT * (time.perf_counter() - began - sampler.seconds)


def _draw_all(rows: Sequence[Row], candidates: Candidates) -> list[int | RequestError]:
    return [draw(sampler, logits, candidates) for sampler, logits in rows]
