"""Pure: what the configuration names and what a scan has found → the models there are, each under one name.

What the configuration names counts before what was found; of two found under one name, the first. Each file is listed
once. A preset without a file is about what was found under its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from supervisor.card import Card
from supervisor.config import Config, Model
from supervisor.control import Entry, Footprint, Found, Sought
from supervisor.estimate import estimate

_NO_FILE = "it names no file, and there is none of its name in models_dir"


@dataclass(slots=True)
class Findings:
    """All that scans have told so far. `complete`: a scan has come to its end since the start."""

    found: dict[tuple[str, str], Found] = field(default_factory=dict)  # by source and name
    problems: list[str] = field(default_factory=list)
    memory: dict[str, Footprint] = field(default_factory=dict)
    gpus: tuple[int, ...] = ()
    complete: bool = False

    def add(self, found: Iterable[Found]) -> None:
        """What is told first about a name of a source counts."""
        for each in found:
            known = self.found.setdefault((each.source, each.model), each)
            if known is not each:
                self.problems.append(f"{each.path}: {known.path} has the name {each.model} already")


def sought(config: Config) -> tuple[Sought, ...]:
    """The models whose files are to be read."""
    models = config.models.values()
    return tuple(
        Sought(m.name, m.path, m.mmproj, m.hf, tuple(each.path for each in m.adapters))
        for m in models if m.path or m.hf
    )  # fmt: skip


def entries(
    config: Config, known: Findings, before: Mapping[str, Entry] | None = None
) -> tuple[dict[str, Entry], list[str]]:
    """Every model by name, and what was left out because of a name. What has not changed is taken from `before`."""
    made = _Maker(known, before or {})
    looked = bool(config.sources.models_dir or config.sources.hf_cache)
    listed = {model.name: _configured(model, known, made, looked) for model in config.models.values()}
    taken, reports = config.names, list(known.problems)
    files = {entry.model.path for entry in listed.values()}
    for (source, name), found in known.found.items():
        if source == "preset" or found.path in files:
            continue
        if name in taken:
            reports.append(f"{found.path}: the name {name} is taken, by [models.{taken[name]}] or another file")
            continue
        taken[name] = name
        model = msgspec.structs.replace(config.defaults, name=name, path=found.path, mmproj=found.mmproj)
        listed[name] = made(model, source, found.card)
    return listed, reports


def awaited(config: Config, name: str) -> Entry:
    """A model that is being fetched into the cache."""
    return Entry(msgspec.structs.replace(config.defaults, name=name), "cache", pending=True)


def memory_key(model: Model, card: Card) -> str:
    """What a measured footprint belongs to: a file, and the settings that make the size."""
    sizes = (model.n_ctx, model.parallel, model.kv, model.n_gpu_layers, model.n_batch, model.n_ubatch)
    ways = (model.flash_attention, model.mmap, model.mlock, model.mmproj, model.worker)
    adapters = (each.path for each in model.adapters)
    return "|".join(map(str, (model.path, card.file_size, card.modified, *sizes, *ways, *adapters)))


def _configured(model: Model, known: Findings, made: _Maker, looked: bool) -> Entry:
    """`looked`: models are looked for in places where it might be, if it names no file."""
    found = known.found.get(("preset", model.name))
    if not model.path and not model.hf and not model.file:
        found = known.found.get(("models_dir", model.name)) or known.found.get(("cache", model.name))
        if found is None and known.complete and model.worker == Model().worker:
            return Entry(model, card=Card(cause="file_missing", problem=_NO_FILE))
    if found is None:
        return Entry(model, pending=not known.complete and not model.path and bool(model.hf or looked))
    located = {"path": model.path or found.path, "mmproj": model.mmproj or found.mmproj}
    return made(msgspec.structs.replace(model, **located), "preset", found.card)


class _Maker:
    """Makes entries; one that would be as before is that one, since an estimate costs more than a look."""

    def __init__(self, known: Findings, before: Mapping[str, Entry]) -> None:
        self._known, self._before = known, before

    def __call__(self, model: Model, source: str, card: Card) -> Entry:
        memory = self._known.memory.get(memory_key(model, card))
        old = self._before.get(model.name)
        if old and (old.card, old.model, old.source, old.memory) == (card, model, source, memory):
            return old
        return Entry(model, source, card, estimate(card, model, len(self._known.gpus)).devices, memory)
