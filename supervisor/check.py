"""`python -m supervisor check`: what a configuration amounts to, in lines for a person. Reads headers itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

from supervisor import catalog, config, keepsakes
from supervisor.card import Card
from supervisor.catalog import Findings
from supervisor.control import Entry, Scan, Scanned
from supervisor.keepsakes import Keepsakes
from supervisor.librarian import Librarian

_NOWHERE = os.path.join(tempfile.gettempdir(), "none", "none")


def report(settings: config.Config) -> Iterator[str]:
    """One line for each model, then warnings."""
    findings, problems = Findings(complete=True), list(settings.warnings)

    def take(part: Scanned) -> None:
        findings.add(part.found)
        problems.extend(part.problems)

    sources, state = settings.sources, keepsakes.folder(settings.state.dir, os.environ)
    order = Scan(1, catalog.sought(settings), sources.models_dir, sources.hf_cache, state)
    Librarian(take, _Forgetful(), None).scan(order)
    entries, left_out = catalog.entries(settings, findings)
    yield f"{settings.file}: correct"
    for entry in entries.values():
        yield f"  {_described(entry)}"
    for name, own in settings.variants.items():
        yield f"  {', '.join((name, *own.aliases))}: a variant of {own.base}"
    if settings.exposed:
        yield f"  warning: {config.EXPOSED}"
    known = {word for entry in entries.values() for word in _names(entry)}
    for own in settings.variants.values():
        if own.base not in entries:
            yield f"  warning: [models.{own.name}].base is {own.base}, but there is no such model now"
        else:
            known |= {own.name, *own.aliases}
    for name in (settings.admission.default_model, settings.admission.fallback_model):
        if name and name not in known:
            yield f"  warning: [admission] names {name}, but there is no such model now"
    for text in (*problems, *left_out):
        yield f"  warning: {text}"


class _Forgetful(Keepsakes):
    """Keeps nothing: a check leaves no trace."""

    def __init__(self) -> None:
        super().__init__(_NOWHERE)

    def save_cards(self) -> None:
        pass


def _described(entry: Entry) -> str:
    model, card = entry.model, entry.card or Card()
    size = f"{model.parallel} × {model.n_ctx or 'full'} tokens of context"
    memory = f", about {sum(entry.estimated.values()) / 2**20:,.0f} MiB" if entry.estimated else ""
    what = f", {card.architecture} {card.quantization}" if card.architecture else ""
    wrong = f"; unusable: {card.problem}" if card.problem else ""
    return f"{', '.join(_names(entry))}: {model.path or model.hf or model.worker}{what}, {size}{memory}{wrong}"


def _names(entry: Entry) -> tuple[str, ...]:
    return (entry.model.name, *entry.model.aliases)
