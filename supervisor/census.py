"""The root's part of the figures: what its models went through, and how they and their processes are now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from supervisor import replicas, resident
from supervisor.control import State
from supervisor.figures import Series
from supervisor.ledger import Ledger
from supervisor.lifecycle import Model
from supervisor.nursery import Ward

Needs = Callable[[str], Mapping[str, int]]  # bytes by device that a model takes
_IN_MEMORY = (State.LOADING, State.READY, State.DRAINING, State.STOPPING)


def moved(ledger: Ledger, before: Model, after: Model, took: float) -> None:
    """Counts a change of state that has just happened, `took` seconds after the one before."""
    name = replicas.base(after.name)
    if before.state is State.LOADING and after.state is not State.STOPPING:
        ledger.count("llama_supervisor_loads_total", name, "ok" if after.state is State.READY else after.cause)
    if before.state is State.LOADING and after.state is State.READY:
        ledger.observe("llama_supervisor_load_seconds", took, name)
    if before.state is State.DRAINING and after.state is State.STOPPING:
        ledger.count("llama_supervisor_evictions_total", name, after.stop_reason)
    if after.state is State.BACKOFF:
        ledger.count("llama_supervisor_restarts_total", name, after.cause)


def present(models: Iterable[Model], workers: dict[str, Ward], now: float) -> Iterator[Series]:
    """The gauges of this moment, those of a model's replicas as one; `now` is monotonic."""
    known = list(models)
    for model in replicas.fronts(known):
        for state in State:
            yield _gauge("model_state", float(model.state is state), replicas.base(model.name), state.value)
    counts = Counter((replicas.base(model.name), model.state) for model in known)
    for (name, state), count in counts.items():
        yield _gauge("replicas", float(count), name, state.value)
    ages: defaultdict[str, float] = defaultdict(float)
    sizes: Counter[tuple[str, str]] = Counter()
    for name, ward in workers.items():
        model_name = replicas.base(name)
        ages[model_name] = max(ages[model_name], now - ward.vitals.ponged_at)
        if (memory := resident.look(ward.child.pid)) is not None:
            sizes[model_name, "resident"] += memory.resident
            sizes[model_name, "shared"] += memory.shared
    for name, age in ages.items():
        yield _gauge("pong_age_seconds", age, name)
    for (name, kind), size in sizes.items():
        yield _gauge("memory_bytes", float(size), name, kind)


def memory(models: Iterable[Model], needs: Needs, budgets: Mapping[str, int]) -> Iterator[Series]:
    """What the models in memory count for on each device, and what there is for them."""
    sizes: Counter[tuple[str, str]] = Counter()
    for model in models:
        if model.state in _IN_MEMORY or model.stuck:
            for device, size in needs(model.name).items():
                sizes[replicas.base(model.name), device] += size
    for (name, device), size in sizes.items():
        yield _gauge("memory_placed_bytes", float(size), name, device)
    for device, size in budgets.items():
        yield _gauge("memory_budget_bytes", float(size), device)


def _gauge(name: str, value: float, *labels: str) -> Series:
    return Series(f"llama_supervisor_{name}", labels, (value,))
