"""A server with a crowd of clients, and what a fault needs of it: processes by role, states, descriptors at rest."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.server import PATIENCE, Server, until
from tests.faults.crowd import Crowd
from tests.faults.history import Hit

MODELS = "abc"
SETTINGS = """
stream_backlog_timeout = "3s"
[defaults]
worker = "tests.echo_worker:main"
[liveness]
ping_interval = "200ms"
pong_timeout = "3s"
step_timeout = "4s"
suspended_timeout = "60s"
[restart]
backoff = "50ms"
backoff_max = "200ms"
max_deaths = 100000
[placement]
max_models = 0
[models.a]
preload = true
[models.b]
preload = true
[models.slow]
file = "load=0.4,gate=$LSV_GATE"
parallel = 128
[models.c]
preload = true
"""
PROXY_DEATHS = 4  # within a minute; the fifth is the root's
RECOVERY = PATIENCE  # seconds within which everything has to be well again


class Scene:
    """`draw`: the chance of this run."""

    def __init__(self, server: Server, draw: random.Random) -> None:
        self.server, self.draw = server, draw
        self.crowd: Crowd | None = None
        self.note = ""  # a figure of the row's own, for the table
        self.counts: Counter[str] = Counter()  # what happened how often
        self._proxy_deaths: list[float] = []

    @property
    def gate(self) -> Path:
        """While this file is there, a load of model slow does not end."""
        return Path(self.server.environment["LSV_GATE"])

    # -- asking ------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """The JSON of a GET, on a connection of its own; tried again while the proxy is away."""
        deadline = time.monotonic() + RECOVERY
        while True:
            try:
                return httpx.get(self.server.url + path, timeout=PATIENCE, verify=False).json()
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def text(self, path: str) -> str:
        return httpx.get(self.server.url + path, timeout=RECOVERY).text

    def post(self, path: str, body: dict[str, Any], timeout: float = RECOVERY) -> httpx.Response:
        return httpx.post(self.server.url + path, json=body, timeout=timeout, verify=False)

    def say(self, model: str, text: str, timeout: float = RECOVERY, **options: Any) -> httpx.Response:
        """An unstreamed chat with the echo worker."""
        head = json.dumps({"echo": options}) + " " if options else ""
        body = {"model": model, "messages": [{"role": "user", "content": head + text}]}
        return self.post("/v1/chat/completions", body, timeout)

    def status(self, model: str) -> dict[str, Any]:
        listed = self.get("/v1/models")["data"]
        return dict(next(entry["status"] for entry in listed if entry["id"] == model))

    def state(self, model: str) -> str:
        return str(self.status(model)["state"])

    def pid(self, role: str, but: int | None = None) -> int:
        """The process of a role, another one than `but`; waits for it."""
        return int(until(lambda: (pid := self.server.pid(role)) and pid != but and pid, RECOVERY, f"a process {role}"))

    def pids(self, role: str) -> list[int]:
        """The processes of a role, now."""
        return [pid for pid in (self.server.pid(role),) if pid is not None]

    def tally(self, what: str) -> None:
        """For the table: this has happened once more."""
        self.counts[what] += 1

    def kill(self, pid: int) -> None:
        """Nothing happens if it has gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Has the configuration read again."""
        self.server.process.send_signal(signal.SIGHUP)

    def large(self) -> None:
        """A request so large that the proxy would read it beside its loop; it names a model that is not there."""
        assert self.post("/v1/completions", {"model": "none", "prompt": "x" * 2 * 2**20}).status_code == 404

    def signal(self, role: str, number: signal.Signals = signal.SIGKILL) -> int:
        pid = self.pid(role)
        os.kill(pid, number)
        return pid

    def pause(self, most: float = 0.4) -> None:
        """A moment that only chance knows."""
        time.sleep(self.draw.random() * most)

    def busy(self, model: str) -> None:
        """Waits until a stream of this model has begun and is not over."""
        assert self.crowd is not None
        entries = self.crowd.entries
        until(lambda: any(e.model == model and e.first and not e.marks for e in entries[-60:]), RECOVERY, "a stream")

    def recovered(self, model: str, began: float, *, since: float = 0.0, closes: bool = False) -> Hit:
        """The hit that began then, once a request of after it has its first token. `model` "": any.

        `since`: when the last of several blows fell.
        """
        assert self.crowd is not None
        crowd, since = self.crowd, since or began
        first = until(lambda: crowd.first_token(model, since), RECOVERY, f"a token of {model or 'any model'}")
        return Hit(model, began, time.monotonic(), float(first) - since, closes)

    def undisturbed(self, began: float) -> Hit:
        """Nobody may have noticed anything."""
        return Hit(None, began, time.monotonic(), time.monotonic() - began)

    def kill_proxy(self) -> int:
        """Not the fifth time within a minute: that is the root's end, and meant so."""
        self._proxy_deaths = [at for at in self._proxy_deaths if at > time.monotonic() - 61]
        if len(self._proxy_deaths) >= PROXY_DEATHS:
            time.sleep(max(0.0, self._proxy_deaths[-PROXY_DEATHS] + 61 - time.monotonic()))
        self._proxy_deaths.append(time.monotonic())
        return self.signal("proxy-0")

    # -- at rest -----------------------------------------------------------------------------------------------

    def warm(self, models: Sequence[str] = ("slow",)) -> None:
        """Everything that is made once is there: the log of each model, the imports of the standby."""
        self.server.http.close()  # its connection would be one descriptor of the proxy
        self.ready()
        for model in models:
            assert self.post("/v1/completions", {"model": model, "prompt": "a", "max_tokens": 1}, 60).status_code == 200
            self.post("/models/unload", {"model": model, "wait": True})
        self.ready()

    def ready(self) -> None:
        until(lambda: all(self.state(model) == "ready" for model in MODELS), RECOVERY, "all models ready")
        self.pid("standby")

    def baseline(self) -> dict[str, int]:
        """The descriptors once they do not change any more: a standby opens some while it imports."""
        seen = [self.descriptors()]

        def steady() -> bool:
            time.sleep(0.3)
            seen.append(self.descriptors())
            passing = seen[-1] != seen[-2] or "standby" not in seen[-1] or "scan" in seen[-1]
            return not passing and _sleeps(self.pid("standby"))

        until(steady, RECOVERY, "no change of descriptors")
        return seen[-1]

    def descriptors(self) -> dict[str, int]:
        """How many each process has, by role."""
        return {role(process): _count(process) for process in self.server.family() if role(process)}

    def untidy(self, baseline: dict[str, int], within: float = RECOVERY) -> list[str]:
        """What is not as it was before: zombies, processes, descriptors. Waits for it to become so."""
        found: list[str] = []

        def tidy() -> bool:
            found[:] = self._differences(baseline)
            return not found

        deadline = time.monotonic() + within
        while not tidy() and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _differences(self, baseline: dict[str, int]) -> list[str]:
        family, now = self.server.family(), self.descriptors()
        found = [f"a zombie {process.pid}" for process in family if _status(process) == psutil.STATUS_ZOMBIE]
        found += [f"{role} is there" for role in now.keys() - baseline.keys()]
        found += [f"{role} is missing" for role in baseline.keys() - now.keys()]
        both = baseline.keys() & now.keys()
        return found + [
            f"{role} has {now[role]} descriptors, not {baseline[role]}" for role in both if now[role] != baseline[role]
        ]


def serve(folder: Path, settings: str = SETTINGS) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, settings)
    server.environment |= {"XDG_STATE_HOME": str(folder / "state"), "LSV_GATE": str(folder / "gate")}
    return server


def role(process: psutil.Process) -> str:
    """`root`, `proxy-0`, `w:a`, `standby`; "" for the resource tracker, and for one that is ending."""
    line = _ask(lambda: " ".join(process.cmdline()), "")
    return line.removeprefix("lsv:").split(" ")[0] if line.startswith("lsv:") else ""


def _sleeps(pid: int) -> bool:
    """Whether no thread of it runs, or waits for a core to do so: a standby imports when nobody else needs one."""
    with contextlib.suppress(OSError):
        states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
        return set(states) == {"S"}
    return False


def _count(process: psutil.Process) -> int:
    return _ask(process.num_fds, 0)


def _status(process: psutil.Process) -> str:
    return _ask(process.status, "")


def _ask(what: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return what()
    except psutil.Error:
        return otherwise
