"""What the root needs under its feet before it opens anything: descriptors 0 to 2, and leave to open many more."""

from __future__ import annotations

import os
import resource
import sys

DESCRIPTORS = 65536  # as the systemd unit allows; more would only make some libraries slow


def secure() -> None:
    """Children inherit both."""
    _standard_streams()
    _descriptors()


def _standard_streams() -> None:
    """Whoever was started without them would take the next file, or a client's connection, for its stderr."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
            assert opened == number
            os.set_inheritable(number, True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


def _descriptors() -> None:
    """The soft limit is often 1024, for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
