"""What is counted: every figure's name, meaning and labels, and how its values travel. Imports nothing heavy.

A child counts since it began and reports all of it from time to time; `supervisor.ledger` adds up the children.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum, auto

import msgspec


class Kind(Enum):
    """How the same figure of several children becomes one: by sum, or the largest. Gauges and rates end with it."""

    COUNTER = auto()
    HISTOGRAM = auto()
    PEAK = auto()  # the largest
    GAUGE = auto()
    RATE = auto()  # the largest


class Series(msgspec.Struct, frozen=True, array_like=True):
    """One figure with these label values: one number, or of a histogram each bucket's own count and, last, the sum."""

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """`labels` are the names of a series' labels; `bounds` the upper ends of a histogram's buckets but for the last."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ("model",)
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many values a series has."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


class Histogram:
    """Counts of values by bucket. Cheap to feed: a bisection and two additions."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, name: str) -> None:
        self._bounds = FIGURES[name].bounds
        self.counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    @property
    def values(self) -> tuple[float, ...]:
        return (*self.counts, self.sum)


_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
_C, _H, _P, _G, _R = Kind.COUNTER, Kind.HISTOGRAM, Kind.PEAK, Kind.GAUGE, Kind.RATE

FIGURES: dict[str, Figure] = {
    # of workers; the first group has llama-server's names
    "llamacpp:prompt_tokens_total": Figure(_C, "Prompt tokens computed"),
    "llamacpp:prompt_tokens_cached_total": Figure(_C, "Prompt tokens taken from the KV cache"),
    "llamacpp:prompt_seconds_total": Figure(_C, "Seconds that prompts were computed, of each request"),
    "llamacpp:tokens_predicted_total": Figure(_C, "Tokens generated"),
    "llamacpp:tokens_predicted_seconds_total": Figure(_C, "Seconds of generation after the first token, of each reply"),
    "llamacpp:n_decode_total": Figure(_C, "Batches decoded"),
    "llamacpp:n_tokens_max": Figure(_P, "The most tokens that a sequence has held"),
    "llamacpp:prompt_tokens_seconds": Figure(_R, "Prompt tokens a second, of one request, in the last 60 s"),
    "llamacpp:predicted_tokens_seconds": Figure(_R, "Tokens a second, of one reply, in the last 60 s"),
    "llamacpp:requests_processing": Figure(_G, "Requests that have a sequence"),
    "llamacpp:requests_deferred": Figure(_G, "Requests that wait for a sequence"),
    "llama_supervisor_busy_sequences_total": Figure(_C, "Sequences in all batches"),
    "llama_supervisor_decode_seconds_total": Figure(_C, "Seconds spent in decoding batches"),
    "llama_supervisor_sampling_seconds_total": Figure(_C, "Seconds from a batch's end until its tokens are drawn"),
    "llama_supervisor_batch_tokens": Figure(_H, "Tokens in a batch", bounds=_ROWS),
    "llama_supervisor_sequence_wait_seconds": Figure(_H, "Wait in the worker for a sequence", bounds=_WAITS),
    "llama_supervisor_inter_token_seconds": Figure(_H, "Time from a reply's token to its next", bounds=_TOKENS),
    # of proxies
    "llama_supervisor_requests_total": Figure(_C, "HTTP requests answered", ("model", "endpoint", "status", "key")),
    "llama_supervisor_tokens_total": Figure(
        _C, "Tokens of requests, by API key; kind: prompt, cached (of the prompt), completion", ("model", "key", "kind")
    ),
    "llama_supervisor_cancelled_total": Figure(_C, "Requests given up before their end", ("model", "reason")),
    "llama_supervisor_queue_wait_seconds": Figure(_H, "Wait from the request until it has a sequence", bounds=_WAITS),
    "llama_supervisor_ttft_seconds": Figure(_H, "Time from the request to the first token", bounds=_WAITS),
    "llama_supervisor_queue_depth": Figure(_G, "Requests that wait for the model to be ready"),
    # of the root
    "llama_supervisor_model_state": Figure(_G, "1 for the state the model is in", ("model", "state")),
    "llama_supervisor_replicas": Figure(_G, "Workers of the model in this state", ("model", "state")),
    "llama_supervisor_loads_total": Figure(_C, "Loads by result", ("model", "result")),
    "llama_supervisor_load_seconds": Figure(_H, "Time a load took", bounds=_WAITS),
    "llama_supervisor_evictions_total": Figure(_C, "Models unloaded by their reason", ("model", "reason")),
    "llama_supervisor_restarts_total": Figure(_C, "Deaths after which a worker is restarted", ("model", "cause")),
    "llama_supervisor_deaths_total": Figure(_C, "Deaths by cause, of proxies under no name", ("model", "cause")),
    "llama_supervisor_memory_bytes": Figure(_G, "Memory of the model's process", ("model", "kind")),
    "llama_supervisor_memory_placed_bytes": Figure(
        _G, "What placement counts for a model in memory", ("model", "device")
    ),
    "llama_supervisor_memory_budget_bytes": Figure(_G, "What models may take", ("device",)),
    "llama_supervisor_pong_age_seconds": Figure(_G, "Time since the worker's last sign of life"),
    "llama_supervisor_proxy_restarts_total": Figure(_C, "Proxies that died and were started again", ()),
}
