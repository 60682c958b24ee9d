"""Whether the kernel has killed for memory in our cgroup: turns a bare SIGKILL into a cause."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def kills() -> int:
    """The `oom_kill` counter of this process's cgroup (v2), 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().partition("::")[2].strip()
        for line in (_ROOT / group.lstrip("/") / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
