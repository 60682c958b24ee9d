"""The root's part of the figures: what its models went through, and how they and their processes are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from supervisor import resident
from supervisor.control import State
from supervisor.figures import Series
from supervisor.ledger import Ledger
from supervisor.lifecycle import Model
from supervisor.nursery import Ward


def moved(ledger: Ledger, before: Model, after: Model, took: float) -> None:
    """Counts a change of state that has just happened, `took` seconds after the one before."""
    name = after.name
    if before.state is State.LOADING and after.state is not State.STOPPING:
        ledger.count("llama_supervisor_loads_total", name, "ok" if after.state is State.READY else after.cause)
    if before.state is State.LOADING and after.state is State.READY:
        ledger.observe("llama_supervisor_load_seconds", took, name)
    if before.state is State.DRAINING and after.state is State.STOPPING:
        ledger.count("llama_supervisor_evictions_total", name, after.stop_reason)
    if after.state is State.BACKOFF:
        ledger.count("llama_supervisor_restarts_total", name, after.cause)


def present(models: Iterable[Model], workers: dict[str, Ward], now: float) -> Iterator[Series]:
    """The gauges of this moment; `now` is monotonic."""
    for model in models:
        for state in State:
            yield _gauge("model_state", float(model.state is state), model.name, state.value)
        if (ward := workers.get(model.name)) is not None:
            yield _gauge("pong_age_seconds", max(0.0, now - ward.vitals.ponged_at), model.name)
            if (memory := resident.look(ward.child.pid)) is not None:
                yield _gauge("memory_bytes", memory.resident, model.name, "resident")
                yield _gauge("memory_bytes", memory.shared, model.name, "shared")


def _gauge(name: str, value: float, *labels: str) -> Series:
    return Series(f"llama_supervisor_{name}", labels, (value,))
