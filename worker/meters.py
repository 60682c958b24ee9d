"""What the engine has done, in plain numbers: written by the engine thread in O(1) per step, read by the I/O thread.

A reader may see a step half counted; the next report has it whole.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from supervisor.figures import Histogram, Series

_WINDOW = 60.0  # seconds over which the present speed is taken


class Meters:
    """Figures since the process began; supervisor.figures says what each means."""

    __slots__ = (
        "_clock", "_generating", "_prompting", "batch_tokens", "busy", "cached_tokens", "decode_seconds",
        "decodes", "inter_token", "peak", "predicted_tokens", "prompt_seconds", "prompt_tokens", "sampling_seconds",
        "sequence_wait", "stepped_at",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.stepped_at = 0.0  # end of the last step, monotonic
        self.prompt_tokens = self.cached_tokens = self.predicted_tokens = self.decodes = self.busy = self.peak = 0
        self.prompt_seconds = self.decode_seconds = self.sampling_seconds = 0.0
        self.inter_token = Histogram("llama_supervisor_inter_token_seconds")
        self.batch_tokens = Histogram("llama_supervisor_batch_tokens")
        self.sequence_wait = Histogram("llama_supervisor_sequence_wait_seconds")
        self._prompting, self._generating = Speed(), Speed()

    # -- the engine ------------------------------------------------------------------------------------------------

    def begun(self, arrived: float, cached: int) -> None:
        """A request that came at `arrived` (monotonic) got its sequence; `cached` tokens of its prompt are there."""
        self.sequence_wait.observe(self._clock() - arrived)
        self.cached_tokens += cached

    def stepped(self, decoding: int, prompts: int, prompt_rows: int, rows: int, seconds: float, decoded: float) -> None:
        """A step is over: so many sequences decoded, so many prompts got these rows; all `rows` took `seconds`.

        decoded: when it was done (monotonic). Every decoding sequence gets a token in every step, so that the time
        from step to step is the time from token to token.
        """
        now = self._clock()
        self.decodes += 1
        self.busy += decoding + prompts
        self.decode_seconds += seconds
        self.sampling_seconds += now - decoded
        self.batch_tokens.observe(rows)
        if prompts:
            self.prompt_tokens += prompt_rows
            self.prompt_seconds += seconds * prompts
        if decoding:
            self.inter_token.observe(now - self.stepped_at, decoding)
        self.stepped_at = now

    def resumed(self, since: float) -> None:
        """An interrupted reply gets its next token; the one before came then (monotonic)."""
        self.inter_token.observe(self._clock() - since)

    def left(self, tokens: int) -> None:
        """A request has ended whose sequence held so many tokens."""
        self.peak = max(self.peak, tokens)

    # -- the I/O thread ----------------------------------------------------------------------------------------------

    @property
    def used(self) -> bool:
        """Whether there is anything to tell of."""
        return bool(sum(self.sequence_wait.counts))

    def series(self, active: int, queued: int) -> list[Series]:
        """All figures; `active` requests have a sequence, `queued` wait for one."""
        now = self._clock()
        self._prompting.add(now, self.prompt_tokens, self.prompt_seconds)
        self._generating.add(now, sum(self.inter_token.counts), self.inter_token.sum)
        numbers = {
            "llamacpp:prompt_tokens_total": self.prompt_tokens,
            "llamacpp:prompt_tokens_cached_total": self.cached_tokens,
            "llamacpp:prompt_seconds_total": self.prompt_seconds,
            "llamacpp:tokens_predicted_total": self.predicted_tokens,
            "llamacpp:tokens_predicted_seconds_total": self.inter_token.sum,
            "llamacpp:n_decode_total": self.decodes,
            "llamacpp:n_tokens_max": self.peak,
            "llamacpp:prompt_tokens_seconds": self._prompting.rate,
            "llamacpp:predicted_tokens_seconds": self._generating.rate,
            "llamacpp:requests_processing": active,
            "llamacpp:requests_deferred": queued,
            "llama_supervisor_busy_sequences_total": self.busy,
            "llama_supervisor_decode_seconds_total": self.decode_seconds,
            "llama_supervisor_sampling_seconds_total": self.sampling_seconds,
        }
        spreads = {
            "llama_supervisor_inter_token_seconds": self.inter_token,
            "llama_supervisor_batch_tokens": self.batch_tokens,
            "llama_supervisor_sequence_wait_seconds": self.sequence_wait,
        }
        found = [Series(name, (), (float(value),)) for name, value in numbers.items()]
        return found + [Series(name, (), spread.values) for name, spread in spreads.items()]


class Speed:
    """Tokens a second of computing, over the last minute. `add` is called about once a second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, float]] = deque()

    def add(self, now: float, tokens: int, seconds: float) -> None:
        """So many tokens took so many seconds, in all."""
        self._seen.append((now, tokens, seconds))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """0 if nothing was computed."""
        if not self._seen:
            return 0.0
        (_, before, began), (_, after, ended) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else 0.0
