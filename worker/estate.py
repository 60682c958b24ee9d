"""What a worker leaves to the next one of its model: the states of its sequences, as a park image. ENGINE.md, 5.

In a memfd that the root keeps, and, if the configuration names a folder, in a file there, so that it outlives the
server too. Both are written at a planned stop only. What cannot be read or written is logged, and computed again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable

from supervisor import config
from supervisor.log import facts
from worker import park_image
from worker.parked import Parked

_log = logging.getLogger(__name__)


class Estate:
    """Of one model and one worker. `empty` and `left` are descriptors, or -1."""

    def __init__(self, settings: config.Parking, fingerprint: bytes, empty: int = -1, left: int = -1) -> None:
        self._settings, self.fingerprint = settings, fingerprint
        self._empty, self._left = empty, left

    @property
    def file(self) -> str:
        """Where it lies on disk, or ""."""
        folder = self._settings.dir
        return os.path.join(folder, f"{self.fingerprint.hex()}.park") if folder else ""

    def inherit(self, parked: Parked) -> None:
        """Takes what the last worker left; the root's is newer than the file."""
        if self._left >= 0:
            _guarded("memory", lambda: park_image.read(self._left, self.fingerprint, parked))
            os.close(self._left)
        elif self.file and os.path.exists(self.file):
            _guarded(self.file, lambda: self._inherit_file(parked))

    def leave(self, parked: Parked, until: float) -> None:
        """Writes what is worth keeping, until `until` (monotonic seconds)."""
        if self._empty >= 0:
            limit = self._settings.budget
            _guarded("memory", lambda: park_image.write(self._empty, self.fingerprint, parked, limit, until))
        if self.file:
            _guarded(self.file, lambda: self._leave_file(parked, until))

    def _inherit_file(self, parked: Parked) -> int:
        with open(self.file, "rb") as file:
            try:
                return park_image.read(file.fileno(), self.fingerprint, parked)
            except park_image.ImageError:
                os.unlink(self.file)  # it would be as bad the next time
                raise

    def _leave_file(self, parked: Parked, until: float) -> int:
        os.makedirs(self._settings.dir, mode=0o700, exist_ok=True)
        part = f"{self.file}.{os.getpid()}"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            written = park_image.write(fd, self.fingerprint, parked, self._settings.disk, until)
            os.rename(part, self.file)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        finally:
            os.close(fd)
        return written


def _guarded(place: str, work: Callable[[], int]) -> None:
    began = time.monotonic()
    try:
        done = work()
    except (park_image.ImageError, OSError) as error:
        _log.warning("states not kept %s", facts(place=place, reason=str(error)))
    else:
        _log.info("states %s", facts(place=place, count=done, seconds=time.monotonic() - began))
