"""A cgroup (v2) for each worker that has a memory_limit, where the server's own may be divided: systemd's Delegate=.

Processes may only be in leaves. So all that are in the server's own group move to one below it, the first time that a
worker gets another.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from supervisor.log import facts

log = logging.getLogger("root")
_REST = "server"  # the leaf of all processes without a limit


class Group:
    """One worker's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def killed(self) -> bool:
        """Whether the kernel has killed in it for want of memory."""
        with suppress(OSError, ValueError):
            counts = dict(line.split() for line in (self._folder / "memory.events").read_text().splitlines())
            return int(counts.get("oom_kill", "0")) > 0
        return False

    def close(self) -> None:
        """Removes it; its process has ended."""
        try:
            os.rmdir(self._folder)
        except OSError as error:
            log.warning("a cgroup stays %s", facts(folder=self._folder, error=error.strerror))


class Cgroups:
    """Those below the server's own. Nothing is changed before the first `confine`."""

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self/cgroup")) -> None:
        self._own = _own(root, proc)
        self._ready: bool | None = None

    def confine(self, pid: int, limit: int) -> Group | None:
        """Moves a process to a group with this limit in bytes; None if that is not possible here."""
        if self._ready is None:
            self._ready = self._divide()
        if not self._ready or self._own is None:
            return None
        folder = self._own / f"worker-{pid}"
        try:
            folder.mkdir()
        except OSError:
            return None
        try:
            _write(folder / "memory.max", str(limit))
            if (folder / "memory.swap.max").exists():
                _write(folder / "memory.swap.max", "0")
            _write(folder / "cgroup.procs", str(pid))
        except OSError as error:
            log.warning("a cgroup cannot be used %s", facts(folder=folder, error=error.strerror))
            with suppress(OSError):
                os.rmdir(folder)
            return None
        return Group(folder)

    def _divide(self) -> bool:
        """Has memory counted for each group below the own one; False where that is not ours to decide."""
        if self._own is None or not os.access(self._own / "cgroup.subtree_control", os.W_OK):
            return False
        try:
            if "memory" not in (self._own / "cgroup.controllers").read_text().split():
                return False
            rest = self._own / _REST
            rest.mkdir(exist_ok=True)
            for pid in (self._own / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    _write(rest / "cgroup.procs", pid)
            _write(self._own / "cgroup.subtree_control", "+memory")
        except OSError as error:
            log.warning("no cgroups for workers %s", facts(folder=self._own, error=error.strerror))
            return False
        return True


def _own(root: Path, proc: Path) -> Path | None:
    """The folder of the cgroup that this process is in; None without v2, and for the topmost, which is not ours."""
    with suppress(OSError):
        path = next((line[3:] for line in proc.read_text().splitlines() if line.startswith("0::")), "/").strip("/")
        if path:
            return root / path
    return None


def _write(file: Path, text: str) -> None:
    with file.open("w") as stream:
        stream.write(text)
