"""Whether the kernel has killed for memory in our cgroup: turns a bare SIGKILL into a cause."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def kills() -> int:
    """The `oom_kill` counter of this process's cgroup, of either version; 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        for line in _counters().read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _counters() -> Path:
    """The file with the counter. Raises OSError, IndexError."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            return _ROOT / "memory" / path.lstrip("/") / "memory.oom_control"
    (path,) = [path for _, controllers, path in groups if not controllers][:1]
    return _ROOT / path.lstrip("/") / "memory.events"
