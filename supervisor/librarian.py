"""Looks for models and reads their headers: all that may hang on a mount, in a thread of the scan child.

`at` says what it is about to touch and since when, so that the main thread can tell a hang.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from supervisor import adapter, discard, gguf, header_facts, hub, keepsakes, pulled, shelf
from supervisor.card import Card
from supervisor.control import Discard, Discarded, Found, Scan, Scanned, Sought
from supervisor.folder_watch import FolderWatch
from supervisor.keepsakes import Keepsakes
from supervisor.shelf import Files

_BATCH = 64  # models in one message
_SOON = 0.05  # seconds after which what was found is told

Tell = Callable[[Scanned], None]
Read = Callable[[str], tuple[gguf.Header, os.stat_result]]


@dataclass(frozen=True, slots=True)
class Touch:
    """What is being touched, since when on the monotonic clock, and the folder that is to blame if it hangs."""

    path: str
    folder: str
    since: float


class Librarian:
    """Carries out scans. `tell` gets the results, batch by batch; `read` reads a header."""

    def __init__(self, tell: Tell, kept: Keepsakes, watch: FolderWatch | None, read: Read = gguf.read) -> None:
        self.at: Touch | None = None
        self._tell, self._kept, self._watch, self._read = tell, kept, watch, read
        self._batch: list[Found] = []
        self._problems: list[str] = []
        self._told = 0.0

    def scan(self, order: Scan) -> None:
        """The whole of it; the last message is `done`."""
        self._told = time.monotonic()
        try:
            for found in self._everything(order):
                self._batch.append(found)
                if len(self._batch) >= _BATCH or time.monotonic() - self._told > _SOON:
                    self._flush(order.number)
        finally:
            self.at = None
        self._kept.save_cards()
        if self._kept.problem:
            self._problems.append(f"nothing is kept: {self._kept.problem}")
        self._flush(order.number, done=True)

    def discard(self, order: Discard) -> Discarded:
        """Deletes files of a cache."""
        places = hub.caches(os.environ)
        self._enter(places.hub)
        try:
            discard.discard(order.paths, order.keep, places)
            pulled.remove(order.state, order.model)
        except OSError as error:
            return Discarded(order.model, f"{error.filename}: {error.strerror}")
        finally:
            self.at = None
        return Discarded(order.model)

    def _flush(self, number: int, done: bool = False) -> None:
        self._tell(Scanned(number, tuple(self._batch), tuple(self._problems), done))
        self._batch.clear()
        self._problems.clear()
        self._told = time.monotonic()

    def _everything(self, order: Scan) -> Iterator[Found]:
        places = hub.caches(os.environ)
        for sought in order.sought:
            yield self._sought(sought, places, order.skip)
        if order.folder:
            roots = (order.folder, places.hub, places.llama)
            for files in self._in_folder(order):
                card = self._card(files, order.skip, roots)
                if card.kind == "model":
                    yield _found(files, "models_dir", card)
        fetched = pulled.names(order.state)
        if order.caches or fetched:
            for files in hub.offered(places, lambda _: self._enter(places.hub)):
                if not order.caches and files.name not in fetched:
                    continue
                card = self._card(files, order.skip)
                if card.kind == "model":
                    yield _found(files, "cache", card)

    def _sought(self, sought: Sought, places: hub.Caches, skip: tuple[str, ...]) -> Found:
        """A model of the configuration, whatever becomes of it."""
        if not sought.hf:
            paths = shelf.siblings(sought.path)
            files = Files(sought.model, paths, sought.mmproj, sought.lora)
            return _found(files, "preset", self._card(files, skip))
        self._enter(places.hub)
        cached = hub.resolve(sought.hf, places)
        if isinstance(cached, hub.Absent):
            return Found(sought.model, "", "", "preset", header_facts.unreadable(cached.problem, "file_missing"))
        named = Files(sought.model, cached.paths, sought.mmproj or cached.projector, sought.lora)
        return _found(named, "preset", self._card(named, skip))

    def _in_folder(self, order: Scan) -> list[Files]:
        if order.folder in order.skip:
            self._problems.append(f"{order.folder}: did not answer, not looked through again")
            return []
        try:
            found, folders = shelf.look(order.folder, self._enter)
        except OSError as error:
            self._problems.append(f"{order.folder}: {error.strerror}")
            return []
        if self._watch is not None:
            try:
                self._watch.add(folders)
            except OSError as error:
                self._problems.append(f"{order.folder}: cannot be watched: {error.strerror}; SIGHUP looks again")
        return found

    def _card(self, files: Files, skip: tuple[str, ...], roots: tuple[str, ...] = ()) -> Card:
        """The facts, from memory if the files are the same. `roots`: links must not lead out of these folders."""
        first = files.paths[0]
        paths = files.all
        if any(os.path.dirname(path) in skip for path in paths):
            return header_facts.unreadable(f"{first} did not answer: is its disk or mount gone?", "load_error")
        try:
            self._touch(first)
            if roots and not _inside(paths, roots):
                problem = f"{first} is a link that leads out of the folder; name it by path in [models.NAME]"
                return header_facts.unreadable(problem, "config_error")
            known_as = keepsakes.identity(paths)
            card = self._kept.card(first, known_as) or self._fresh(files)
        except FileNotFoundError as error:
            return header_facts.unreadable(f"no such file: {error.filename}", "file_missing")
        except OSError as error:
            return header_facts.unreadable(f"{first}: {error.strerror}", "load_error")
        self._kept.keep(first, known_as, card)
        return card

    def _fresh(self, files: Files) -> Card:
        """Reads the headers. Raises OSError."""
        status = os.stat(files.paths[0])
        try:
            headers = []
            for path in files.paths:
                self._touch(path)
                headers.append(self._read(path)[0])
            count = header_facts.shards(headers[0])
            if count != len(headers):
                raise gguf.GgufError(f"incomplete: {len(headers)} of its {count} files are there")
            projector = self._projector(files.projector)
            facts = header_facts.card(headers, projector)
            for path in files.adapters:
                self._touch(path)
                facts = adapter.added(facts, path, self._read(path)[0], headers)
        except gguf.GgufError as error:
            facts = header_facts.unreadable(f"{path}: {error}")
        size = sum(os.stat(path).st_size for path in files.paths)
        return header_facts.dated(facts, int(status.st_mtime), size)

    def _projector(self, path: str) -> gguf.Header | None:
        if not path:
            return None
        self._touch(path)
        try:
            return self._read(path)[0]
        except gguf.GgufError as error:
            self._problems.append(f"{path}: no projector: {error}")
            return None

    def _touch(self, path: str) -> None:
        self.at = Touch(path, os.path.dirname(path), time.monotonic())

    def _enter(self, folder: str) -> None:
        self.at = Touch(folder, folder, time.monotonic())


def _found(files: Files, source: str, card: Card) -> Found:
    return Found(files.name, files.paths[0], files.projector, source, card)


def _inside(paths: list[str], roots: tuple[str, ...]) -> bool:
    real = [os.path.realpath(root) + os.sep for root in roots]
    return all(any(os.path.realpath(path).startswith(root) for root in real) for path in paths)
