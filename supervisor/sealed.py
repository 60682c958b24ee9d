"""Memory that two processes share, of a size that neither can change, so that a writer cannot make a reader fault."""

from __future__ import annotations

import fcntl
import os

_SEALS = 0x1 | 0x2 | 0x4  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
_F_ADD_SEALS = 1033


def create(name: str, size: int) -> int:
    """A descriptor of so many zero bytes."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    return fd
