"""The root's part of the figures: what its models went through, and how they and their processes are now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from supervisor import placement
from supervisor.control import State
from supervisor.figures import Series
from supervisor.ledger import Ledger
from supervisor.lifecycle import Model
from supervisor.nursery import Ward
from supervisor.placement import Resident

_PAGE = os.sysconf("SC_PAGE_SIZE")


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
            for kind, size in _memory(ward.child.pid):
                yield _gauge("memory_bytes", size, model.name, kind)


def memory(models: Iterable[Resident], budgets: Mapping[str, int]) -> Iterator[Series]:
    """What the models in memory count for on each device, and what there is for them."""
    for model in filter(placement.holds, models):
        for device, size in model.needs.items():
            yield _gauge("memory_placed_bytes", float(size), model.name, device)
    for device, size in budgets.items():
        yield _gauge("memory_budget_bytes", float(size), device)


def _gauge(name: str, value: float, *labels: str) -> Series:
    return Series(f"llama_supervisor_{name}", labels, (value,))


def _memory(pid: int | None) -> Iterator[tuple[str, float]]:
    """A process's memory in bytes: resident, and the part of that which it shares with others."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return  # it has just ended
    yield "resident", float(resident) * _PAGE
    yield "shared", float(shared) * _PAGE
