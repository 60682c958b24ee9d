"""Reads a file into the page cache, so that a load which is to come finds it there. Never at anybody's cost.

Only memory that is free is filled: the cache may hold the weights of models that work.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 2**20


def begin(path: str, over: Callable[[], bool]) -> threading.Thread:
    """Reads in a thread of its own, until all is read or `over` says so; what cannot be read is left alone."""
    thread = threading.Thread(target=_read, args=(path, over), name="warming", daemon=True)
    with suppress(RuntimeError):  # no threads left: the load will do without
        thread.start()
    return thread


def _read(path: str, over: Callable[[], bool]) -> None:
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > free():
                return
            buffer = bytearray(_CHUNK)
            while not over() and file.readinto(buffer):
                pass
    except OSError:
        pass  # its load will say what is wrong


def free() -> int:
    """Bytes of memory that nothing is kept in, not even the page cache; 0 if the kernel does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":", 1) for line in file)
        return int(sizes["MemFree"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
