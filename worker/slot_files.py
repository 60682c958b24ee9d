"""The folder of slots' states: files by name, each in it alone, each whole or not there. RELIABILITY.md, 13.

A file is written under a name of its own, and gets its name when it is complete and on the disk. What a worker that was
killed has left goes with the next file: nobody holds its lock any more. A file that is none of ours, or of another
model, is never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from worker import park_image
from worker.adapter_set import AdapterSet
from worker.failure import RequestError
from worker.park_image import Filed, Foreign, ImageError, Note, Writer
from worker.parked import Segment

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FRESH = 60.0  # seconds in which one that has just been made may not be locked yet
_UNFINISHED = ".part"  # a name that clients give never begins with a dot


@dataclass(frozen=True, slots=True)
class SlotFile:
    """The parts of a slot's state, the adapters with which it was computed, and the file's bytes."""

    parts: list[tuple[Segment, Filed]]
    adapters: AdapterSet
    size: int


class SlotFiles:
    """Of one model. A name is one component; who asks has seen to that."""

    def __init__(self, folder: str, fingerprint: bytes, model: str) -> None:
        self._folder, self._fingerprint, self._model = folder, fingerprint, model

    @contextlib.contextmanager
    def new(self, name: str, adapters: AdapterSet) -> Iterator[Writer]:
        """A file that takes the name when the block ends well, and else is gone. Raises RequestError."""
        assert _component(name), name
        with _told(name), self._opened() as folder:
            self._may_replace(name, folder)
            _sweep(folder)
            part = f".{os.urandom(8).hex()}{_UNFINISHED}"
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield Writer(fd, self._fingerprint, Note(self._model, adapters))
                os.fsync(fd)
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part, dir_fd=folder)
                raise
            finally:
                os.close(fd)

    def read(self, name: str) -> SlotFile:
        """What is in a file of this model; the states are not read yet. Raises RequestError."""
        assert _component(name), name
        with _told(name), self._opened() as folder, _reading(name, folder) as fd:
            try:
                parts = list(park_image.segments(fd, self._fingerprint))
                return SlotFile(parts, park_image.note(fd).adapters, os.fstat(fd).st_size)
            except Foreign as error:
                raise _bad(name, self._foreign(error.note.model)) from None
            except ImageError as error:
                raise _bad(name, f"is no saved slot, or a damaged one: {error}") from None

    def _foreign(self, model: str) -> str:
        if model != self._model:
            return f"is a slot of the model {model}, not of {self._model}"
        return f"is a slot of {model} with another file, other settings or another version of llama.cpp"

    def _may_replace(self, name: str, folder: int) -> None:
        """Raises RequestError unless there is nothing of this name, or a slot of this model."""
        try:
            with _reading(name, folder) as fd:
                model = park_image.note(fd).model
        except FileNotFoundError:
            return
        except ImageError:
            raise _bad(name, "is there already, and is no saved slot: it is not replaced") from None
        if model != self._model:
            raise _bad(name, f"is a slot of the model {model}: it is not replaced")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _reading(name: str, folder: int) -> Iterator[int]:
    """A regular file of the folder; a pipe would block us for ever. Raises RequestError and OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _bad(name, "is no file")
        yield fd
    finally:
        os.close(fd)


def _sweep(folder: int) -> None:
    """Removes what was never finished: whoever writes holds a lock."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(_UNFINISHED):
            with contextlib.suppress(OSError, RequestError), _reading(name, folder) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(fd).st_mtime > _FRESH:
                    os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """What the system refuses, as a client may be told."""
    try:
        yield
    except FileNotFoundError as error:
        if error.filename == name:
            raise RequestError("not_found", f'filename: there is no "{name}"', param="filename") from None
        raise RequestError("storage_failed", f"the folder of saved slots is gone: {error.strerror}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _bad(name, "is a link, which is not followed") from None
        way = "; free some space" if error.errno in _FULL else ""
        raise RequestError("storage_failed", f'"{name}": {error.strerror or error}{way}') from None


def _bad(name: str, what: str) -> RequestError:
    return RequestError("invalid_value", f'filename: "{name}" {what}', param="filename")


def _component(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and not name.startswith(".")
