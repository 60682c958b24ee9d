"""The Hugging Face cache, written as its own library does: HUB/models--USER--REPO/{blobs,refs,snapshots}.

A file grows beside the blobs under a name of its own and gets the blob's name when it is whole and checked; only then
there is a link to it in the snapshot, and last of all refs/main names that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from filelock import FileLock, Timeout

from worker.download.remote import Part, Plan

_LOOK = 1.0  # seconds between two looks for a lock that somebody else has


class Cache:
    """A repository's folder. `hub` is where all of them are."""

    def __init__(self, hub: str, plan: Plan) -> None:
        self._plan = plan
        name = "models--" + plan.repository.replace("/", "--")
        self.folder = os.path.join(hub, name)
        self._locks = os.path.join(hub, ".locks", name)
        self._snapshot = os.path.join(self.folder, "snapshots", plan.revision)

    def blob(self, part: Part) -> str:
        return os.path.join(self.folder, "blobs", part.digest)

    def partial(self, part: Part) -> str:
        """Where it is as long as it is not whole; not where others write, who may leave holes."""
        return f"{self.blob(part)}.pulled.incomplete"

    def has(self, part: Part) -> bool:
        """Whether its blob is there in its size."""
        return _size(self.blob(part)) == part.size

    def begun(self, part: Part) -> int:
        """Bytes that are there."""
        return part.size if self.has(part) else min(_size(self.partial(part)), part.size)

    def missing(self, parts: Iterable[Part]) -> int:
        """Bytes that are not there."""
        return sum(part.size - self.begun(part) for part in parts)

    def free(self) -> int:
        """Bytes of room. Raises OSError."""
        self.prepare()
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def prepare(self) -> None:
        """Raises OSError."""
        for folder in (os.path.join(self.folder, "blobs"), self._snapshot, self._locks):
            os.makedirs(folder, exist_ok=True)

    @contextmanager
    def locked(self, part: Part, waits: Callable[[float], None]) -> Iterator[None]:
        """Nobody else writes this blob meanwhile: neither another download nor the library's own."""
        lock = FileLock(os.path.join(self._locks, f"{part.digest}.lock"))
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                waits(_LOOK)
        try:
            yield
        finally:
            lock.release()

    def keep(self, part: Part) -> None:
        """The partial file is whole: it becomes the blob. Raises OSError."""
        os.replace(self.partial(part), self.blob(part))

    def publish(self) -> None:
        """Links every part into the snapshot, and says that this is main. Raises OSError."""
        for part in self._plan.parts:
            place = os.path.join(self._snapshot, part.path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            _replace(place, partial(os.symlink, os.path.relpath(self.blob(part), os.path.dirname(place))))
        refs = os.path.join(self.folder, "refs")
        os.makedirs(refs, exist_ok=True)
        _replace(os.path.join(refs, "main"), partial(_write, self._plan.revision))


def _replace(path: str, make: Callable[[str], None]) -> None:
    new = f"{path}.{os.getpid()}.incomplete"
    make(new)
    os.replace(new, path)


def _write(text: str, path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
