"""How many threads compute well here: the physical cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_OFFLOADED = 4  # with every layer on a device, threads only feed it


def threads(configured: int, *, on_cpu: bool) -> int:
    """`configured`, or if that is 0 one per physical core, a few where no layer runs on the CPU."""
    if configured:
        return configured
    cores = physical()
    return cores if on_cpu else min(cores, _OFFLOADED)


def physical() -> int:
    """Physical cores among the logical ones this process is allowed on."""
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text().strip()
    except OSError:
        return str(cpu)  # no topology known: each counts
