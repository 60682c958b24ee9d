"""A systemd that has booted, as PID 1 of namespaces of its own, around this machine's programs and an overlay of its
files: nothing outside is changed, and its loopback is not this machine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

_INIT = Path(__file__).with_name("init.sh")
_TARGET = "[Unit]\nDescription=What a test needs\nRequires=basic.target dbus.socket\nAfter=basic.target\n"
# What wants hardware, a clock or the network; nothing of it is ours.
_MASKED = (
    "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket", "systemd-timesyncd.service", "systemd-journal-flush.service",
    "systemd-random-seed.service", "systemd-sysctl.service", "systemd-modules-load.service", "dev-hugepages.mount",
    "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
    "systemd-update-utmp.service", "systemd-logind.service",
)  # fmt: skip
_TOOLS = ("unshare", "nsenter", "mount", "pivot_root", "ip", "systemctl", "journalctl")


def obstacle() -> str:
    """Why no system can be booted here; "" if one may be."""
    if os.geteuid() != 0:
        return "it takes root"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    if _cgroup2() is None:
        return "there is no cgroup v2"
    try:
        subprocess.run(["unshare", "--mount", "--pid", "--fork", "--cgroup", "--net", "true"], check=True)
    except subprocess.CalledProcessError:
        return "namespaces cannot be made"
    return ""


class Box:
    """The booted system. `files`: where, before it boots, what shall be laid over the system can be written."""

    def __init__(self) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="lsv-booted-"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self._scratch], check=True)
        self.files = self._scratch / "upper"
        units = self.files / "etc" / "systemd" / "system"
        units.mkdir(parents=True)
        (units / "booted.target").write_text(_TARGET)
        for name in _MASKED:
            (units / name).symlink_to("/dev/null")
        (self.files / "etc" / "machine-id").write_text("")
        self._cgroup = (_cgroup2() or Path()) / f"lsv-booted-{os.getpid()}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def boot(self) -> None:
        """Returns once the system runs."""
        self._cgroup.mkdir()
        enter = f'echo $$ >"{self._cgroup}/cgroup.procs"; exec "$@"'
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net", "--cgroup"]
        command = ["sh", "-c", enter, "sh", *apart, "sh", str(_INIT), str(self._scratch)]
        with (self._scratch / "console").open("wb") as console:
            self._outer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self._pid = self.until(self._first, 10, "PID 1")
        self.until(lambda: self.run("systemctl", "is-system-running", check=False).strip() == "running", 30, "the boot")

    def run(self, *command: str, check: bool = True, timeout: float = 120) -> str:
        """A command inside; what it says on stdout."""
        ended = subprocess.run(
            ["nsenter", "-t", str(self._pid), "-a", *command], capture_output=True, text=True, timeout=timeout
        )
        if check and ended.returncode:
            raise AssertionError(
                f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}{ended.stderr}{self.journal()}"
            )
        return ended.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A command inside that goes on."""
        return subprocess.Popen(
            ["nsenter", "-t", str(self._pid), "-a", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").strip()

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-n", "60", "-u", "llama-supervisor*", check=False)

    def console(self) -> str:
        """What was said before it booted."""
        return (self._scratch / "console").read_text(errors="replace")

    def until(self, fact: Callable[[], Any], within: float, what: str) -> Any:
        """The first value of `fact` that is true."""
        deadline = time.monotonic() + within
        while not (found := fact()):
            if time.monotonic() > deadline:
                said = f"{self.console()[-2000:]}\n{self.journal() if self._pid else ''}"
                raise AssertionError(f"not within {within:g} s: {what}\n{said}")
            time.sleep(0.05)
        return found

    def close(self) -> None:
        """Every process of it ends with its PID 1."""
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()
            self.until(lambda: not _pids(self._cgroup), 10, "its end")
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            os.rmdir(folder)
        subprocess.run(["umount", "-l", self._scratch], check=True)
        self._scratch.rmdir()

    def __enter__(self) -> Box:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _first(self) -> int:
        """The process that is PID 1 inside: unshare's only child, once it is systemd."""
        assert self._outer is not None
        assert self._outer.poll() is None, self.console()
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n":
            return int(children[0])
        return 0


def _cgroup2() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


def _pids(cgroup: Path) -> list[str]:
    return [pid for file in cgroup.rglob("cgroup.procs") for pid in file.read_text().split()]
