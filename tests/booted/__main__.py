"""`python -m tests.booted`: the installed service under a systemd that has booted. Exit codes: 0 every check held,
1 one did not, 77 no system can be booted here.

It needs root, cgroup v2, namespaces and an installed systemd; it leaves nothing on this machine. `make booted`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.booted.box import Box, obstacle

ROOT = Path(__file__).parents[2]
UNIT = "llama-supervisor"
CONF = "etc/llama-supervisor/models.toml"
STATE = "/var/lib/llama-supervisor"
_SKIPPED = 77
_WATCHDOG = 4  # seconds, in place of the unit's 30
_ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
method, path, body = sys.argv[1:4]
connection.request(method, path, body or None)
response = connection.getresponse()
for line in response:
    sys.stdout.buffer.write(line); sys.stdout.flush()
sys.exit(response.status != 200)
"""


class Service:
    """The service in the box, as its operator and its clients see it."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.python = "/usr/local/lib/llama-supervisor/bin/python"

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.box.run("systemctl", *words, check=check)

    def show(self, name: str) -> str:
        return self.box.show(UNIT, name)

    @property
    def main(self) -> int:
        return int(self.show("MainPID"))

    def ask(self, path: str, body: object = None, check: bool = True) -> str:
        method, text = ("POST", json.dumps(body)) if body else ("GET", "")
        return self.box.run(self.python, "-c", _ASK, method, path, text, check=check)

    def stream(self, tokens: int) -> subprocess.Popen[str]:
        """A request under way: its first line has come."""
        body = {"prompt": "Once", "max_tokens": tokens, "ignore_eos": True, "stream": True}
        found = self.box.start(self.python, "-c", _ASK, "POST", "/v1/completions", json.dumps(body))
        assert found.stdout is not None
        assert found.stdout.readline().startswith("data:")
        return found

    def processes(self) -> list[int]:
        """Those of the service's cgroup, as numbered inside."""
        group = self.show("ControlGroup")
        if not group:
            return []
        text = self.box.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False)
        return [int(pid) for pid in text.split()]

    def titled(self, title: str) -> int:
        """The process of this title, 0 if there is none."""
        for pid in self.processes():
            if self.box.run("cat", f"/proc/{pid}/cmdline", check=False).startswith(title):
                return pid
        return 0

    def serves(self) -> None:
        self.box.until(lambda: '"status"' in self.ask("/health", check=False), 30, "/health")
        self.box.until(lambda: "1 of 1 models ready" in self.show("StatusText"), 60, "the model")

    def configure(self, text: str) -> None:
        self.box.run("sh", "-c", f"cat >/{CONF} <<'END'\n{text}\nEND")

    def configuration(self) -> str:
        return self.box.run("cat", f"/{CONF}")


def starts(service: Service) -> None:
    """`systemctl start` returns when it serves, as its own user, without any privilege."""
    service.systemctl("start", UNIT)
    assert service.show("ActiveState") == "active"
    service.ask("/health")
    service.serves()
    pid = service.titled("lsv:w:")
    lines = service.box.run("cat", f"/proc/{pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert (status["CapEff"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2"), status
    assert service.box.run("stat", "-c", "%U", f"/proc/{pid}").strip() == UNIT
    answer = json.loads(service.ask("/v1/completions", {"prompt": "Once upon", "max_tokens": 4}))
    assert answer["usage"]["completion_tokens"] == 4


def reloads(service: Service) -> None:
    """A reload takes over what is right, refuses what is wrong with a word about it, and restarts nothing."""
    before, main, worker = service.configuration(), service.main, service.titled("lsv:w:")
    service.configure(before + "[placement]\nmax_models = 3\n")
    service.systemctl("reload", UNIT)
    service.box.until(lambda: "reloaded changed=placement" in service.box.journal(), 10, "the reload in the journal")
    service.configure(before + "nonsense =\n")
    service.systemctl("reload", UNIT)
    service.box.until(lambda: "reload refused" in service.show("StatusText"), 10, "the refusal")
    service.configure(before)
    service.systemctl("reload", UNIT)
    assert (service.main, service.titled("lsv:w:")) == (main, worker)


def loses_a_worker(service: Service) -> None:
    """A killed worker comes back, the unit is not touched by it, and there is a report."""
    main, worker = service.main, service.titled("lsv:w:")
    service.box.run("kill", "-9", str(worker))
    service.box.until(lambda: service.titled("lsv:w:") not in (0, worker), 30, "another worker")
    service.serves()
    assert (service.main, service.show("NRestarts")) == (main, "0")
    service.box.until(lambda: service.box.run("ls", f"{STATE}/deaths", check=False), 2, "a crash report")


def loses_the_root(service: Service) -> None:
    """kill -9 of the root: nothing of the old tree is left, and systemd starts a new one."""
    old = service.processes()
    service.box.run("kill", "-9", str(service.main))
    service.box.until(lambda: service.show("NRestarts") == "1", 30, "a restart")
    service.serves()
    assert not set(old) & set(service.processes())


def hangs(service: Service) -> None:
    """A root that stands still is ended by the watchdog, and so are its children; then it starts again."""
    old = service.processes()
    service.box.run("kill", "-STOP", str(service.main))
    service.box.until(lambda: service.show("NRestarts") == "2", 60, "the watchdog")
    service.serves()
    journal = service.box.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)
    assert "Watchdog timeout" in journal, journal
    left = set(old) & set(service.processes())
    assert not left, left


def drains(service: Service) -> None:
    """`systemctl stop` lets a stream come to its end, and leaves no process."""
    stream = service.stream(30)
    service.systemctl("stop", UNIT)
    text = stream.communicate(timeout=60)[0]
    assert "data: [DONE]" in text, text[-500:]
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    assert service.processes() == []


def refuses(service: Service) -> None:
    """A wrong configuration is not tried again."""
    before = service.configuration()
    service.configure("nonsense =")
    service.systemctl("start", UNIT, check=False)
    service.box.until(lambda: service.show("ActiveState") == "failed", 20, "its failure")
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")
    service.configure(before)
    service.systemctl("reset-failed", UNIT)


def is_activated(service: Service) -> None:
    """With the socket unit a client waits for the server to start, and while it restarts."""
    service.systemctl("start", f"{UNIT}.socket")
    assert service.show("ActiveState") == "inactive"
    assert '"status"' in service.ask("/health")
    main = service.main
    service.systemctl("restart", "--no-block", UNIT)
    assert '"status"' in service.ask("/health")
    service.box.until(lambda: service.main not in (0, main), 60, "another root")
    service.systemctl("stop", f"{UNIT}.socket", UNIT)


CHECKS: tuple[Callable[[Service], None], ...] = (
    starts, reloads, loses_a_worker, loses_the_root, hangs, drains, refuses, is_activated,
)  # fmt: skip


def main() -> int:
    if why := obstacle():
        print(f"skipped: no system can be booted here: {why}")
        return _SKIPPED
    failed = 0
    with Box() as box:
        _prepare(box)
        began = time.monotonic()
        box.boot()
        print(f"booted              {time.monotonic() - began:6.1f} s")
        service = Service(box)
        for check in CHECKS:
            began, outcome = time.monotonic(), "held"
            try:
                check(service)
            except (AssertionError, subprocess.SubprocessError) as error:
                outcome, failed = f"FAILED: {error or type(error).__name__}", failed + 1
            print(f"{check.__name__:<19} {time.monotonic() - began:6.1f} s  {outcome}", flush=True)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks held")
    return 1 if failed else 0


def _prepare(box: Box) -> None:
    """Installs the server into it, as `make install` does, with a shorter watchdog."""
    install = [sys.executable, ROOT / ".ci" / "install.py", "install", "--destdir", box.files]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = box.files / "etc" / "systemd" / "system" / f"{UNIT}.service.d"
    folder.mkdir(parents=True)
    lines = ["[Service]", f"WatchdogSec={_WATCHDOG}", "RestartSec=200ms"]
    home = Path(os.path.realpath(sys.executable)).parts[1]
    if home in ("root", "home"):  # an interpreter of somebody's own, which the unit would not see
        lines.append("ProtectHome=read-only")
        (box.files / home).mkdir(mode=0o755)
    (folder / "test.conf").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
