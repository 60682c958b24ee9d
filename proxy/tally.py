"""What this process counts for the metrics. The root adds up all processes: supervisor.ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from proxy.context import Context
from proxy.gate import Gate
from supervisor.figures import Histogram, Series

_CANCELLED = {"client_gone", "client_stalled", "cancelled"}  # outcomes of requests that were given up
_KINDS = ("prompt", "cached", "completion")


class Tally:
    """Figures since this process began."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, str, str]] = Counter()
        self._tokens: Counter[tuple[str, str, str]] = Counter()
        self._cancelled: Counter[tuple[str, str]] = Counter()
        self._waits: defaultdict[str, Histogram] = defaultdict(lambda: Histogram("llama_supervisor_queue_wait_seconds"))
        self._firsts: defaultdict[str, Histogram] = defaultdict(lambda: Histogram("llama_supervisor_ttft_seconds"))

    def answered(self, context: Context, endpoint: str) -> None:
        """A request is over, however it ended."""
        model = context.model
        self._requests[model, endpoint, str(context.told_status), context.owner] += 1
        if context.outcome in _CANCELLED:
            self._cancelled[model, context.outcome] += 1
        if (call := context.call) is not None and call.started_ms is not None:
            self._waits[model].observe(call.started_ms / 1000)
            if call.answer is not None:
                for kind, count in zip(_KINDS, call.answer.counts, strict=True):
                    self._tokens[model, context.owner, kind] += count
            if call.first_ms is not None:
                self._firsts[model].observe(call.first_ms / 1000)

    def series(self, gates: Iterable[Gate]) -> list[Series]:
        """All of it, and how many requests wait now."""
        found = [Series("llama_supervisor_requests_total", key, (count,)) for key, count in self._requests.items()]
        found += [Series("llama_supervisor_tokens_total", key, (count,)) for key, count in self._tokens.items()]
        found += [Series("llama_supervisor_cancelled_total", key, (count,)) for key, count in self._cancelled.items()]
        found += [Series("llama_supervisor_queue_depth", (gate.name,), (gate.queued,)) for gate in gates]
        for name, spreads in (("queue_wait_seconds", self._waits), ("ttft_seconds", self._firsts)):
            found += [Series(f"llama_supervisor_{name}", (model,), spread.values) for model, spread in spreads.items()]
        return found
