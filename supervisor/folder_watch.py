"""Tells when something changes in some folders: Linux's inotify, which Python has no module for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

# closed after a write, moved away, moved here, made, deleted, the folder itself deleted or moved
_MODIFIED = 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_ONLY_FOLDERS = 0x01000000
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class FolderWatch:
    """`fileno` turns readable when there is something to `drain`."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(_FLAGS))

    def fileno(self) -> int:
        return self._fd

    def add(self, folders: Iterable[str]) -> None:
        """Watches these folders, beside those it watches already. Raises OSError."""
        for folder in folders:
            self._checked(self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _MODIFIED | _ONLY_FOLDERS))

    def drain(self) -> None:
        """Forgets what has happened."""
        try:
            while os.read(self._fd, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self._fd)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
