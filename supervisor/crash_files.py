"""Crash reports as files: the scan child writes them, proxies read them for admins. Few, small, their owner's alone."""

from __future__ import annotations

import os
import re
from contextlib import suppress

FOLDER = "deaths"  # in the state folder
MOST_BYTES = 2**20  # of one report; the rings that it is made of hold much less
ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[A-Za-z0-9][A-Za-z0-9._-]{0,47}-[0-9a-f]{4}")
_END = ".json"


def keep(state: str, id: str, content: bytes, most: int, size: int) -> None:
    """Writes a report; the oldest go, so that there are at most `most`, of at most `size` bytes. Raises OSError."""
    folder = os.path.join(state, FOLDER)
    os.makedirs(state, mode=0o700, exist_ok=True)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _thin_out(folder, most - 1, size - len(content))
    part = os.path.join(folder, f".{id}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(part, flags, 0o600), "wb") as file:
            file.write(content)
        os.replace(part, os.path.join(folder, id + _END))
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise


def read(state: str, id: str) -> bytes | None:
    """A report's content; None if there is none of this id. Raises OSError."""
    if ID.fullmatch(id) is None:
        return None
    path = os.path.join(state, FOLDER, id + _END)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(MOST_BYTES)


def ids(state: str) -> list[str]:
    """Those of all reports that are kept, of earlier runs too, oldest first."""
    try:
        names = os.listdir(os.path.join(state, FOLDER))
    except OSError:
        return []
    return sorted(name.removesuffix(_END) for name in names if name.endswith(_END) and ID.fullmatch(name[: -len(_END)]))


def _thin_out(folder: str, most: int, size: int) -> None:
    """Removes what is too much, oldest first, and what a writer that died has left."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries)
    for name, _ in found:
        if name.endswith(".part"):
            os.unlink(os.path.join(folder, name))
    kept = [(name, bytes_) for name, bytes_ in found if ID.fullmatch(name.removesuffix(_END))]
    total = sum(bytes_ for _, bytes_ in kept)
    while kept and (len(kept) > max(0, most) or total > max(0, size)):
        name, bytes_ = kept.pop(0)
        os.unlink(os.path.join(folder, name))
        total -= bytes_
