"""Deleting models: taken off the list, drained and stopped, then the scan child deletes the files nobody else uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from supervisor.control import Answer, Entry, ModelCommand
from supervisor.downloads import Downloads
from supervisor.log import facts
from supervisor.shelf import siblings

log = logging.getLogger("root")
Reply = Callable[[Answer], None]


class Models(Protocol):
    """What removals need of the fleet."""

    def entry(self, name: str) -> Entry | None: ...

    @property
    def catalog(self) -> Mapping[str, Entry]: ...


class Shelf(Protocol):
    """What removals need of the library."""

    def condemn(self, name: str) -> None: ...

    def pardon(self, name: str) -> None: ...

    def discard(
        self, name: str, paths: tuple[str, ...], keep: tuple[str, ...], done: Callable[[str], None]
    ) -> None: ...

    def rescan(self, done: Callable[[], None] | None = None) -> None: ...


@dataclass
class _Removal:
    paths: tuple[str, ...]
    replies: list[tuple[int, Reply]] = field(default_factory=list)


class Removals:
    """Those under way."""

    def __init__(self, models: Models, shelf: Shelf, downloads: Downloads) -> None:
        self._models, self._shelf, self._downloads = models, shelf, downloads
        self._under_way: dict[str, _Removal] = {}

    def remove(self, command: ModelCommand, reply: Reply) -> None:
        """Begins one; `reply` is called once its files are gone, or cannot go."""
        name = command.model
        if (removal := self._under_way.get(name)) is not None:
            removal.replies.append((command.ticket, reply))
            return
        entry = self._models.entry(name)
        if entry is None:
            reply(Answer(command.ticket, "model_not_found", f'model "{name}" not found'))
        elif entry.source != "cache":
            where = "in the configuration" if entry.source == "preset" else "in models_dir, a folder of yours"
            text = f"{name} stands {where}; only models of the cache can be deleted here"
            reply(Answer(command.ticket, "not_removable", text))
        else:
            self._under_way[name] = _Removal(_files(entry) + self._downloads.partial(name), [(command.ticket, reply)])
            self._shelf.condemn(name)  # it drains, and `gone` is called once it has ended

    def gone(self, name: str) -> None:
        """The model runs no more and is in no list."""
        if (removal := self._under_way.get(name)) is None:
            return
        others = [entry.model for entry in self._models.catalog.values() if entry.model.name != name]
        keep = tuple(path for model in others for path in (*siblings(model.path), model.mmproj) if path)
        keep += self._downloads.partials
        self._shelf.discard(name, removal.paths, keep, lambda problem: self._discarded(name, problem))

    def _discarded(self, name: str, problem: str) -> None:
        log.info("deleted %s", facts(model=name, problem=problem))
        self._shelf.pardon(name)  # what is still there is listed again
        self._shelf.rescan(lambda: self._answer(name, problem))

    def _answer(self, name: str, problem: str) -> None:
        for ticket, reply in self._under_way.pop(name).replies:
            reply(
                Answer(ticket, "not_removable" if problem else "", problem and f"{name} cannot be deleted: {problem}")
            )


def _files(entry: Entry) -> tuple[str, ...]:
    model = entry.model
    return tuple(path for path in (*siblings(model.path), model.mmproj) if path)
