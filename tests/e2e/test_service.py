"""The server as a service manager sees it: what it is told, in which order, and whose the listening socket is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.server import PATIENCE, ROOT, Server, still_there, until

ECHO = '[defaults]\nworker = "tests.echo_worker:main"\n'


class Manager:
    """Stands for systemd at the other end of NOTIFY_SOCKET: `told`, one dictionary for each datagram."""

    def __init__(self, path: Path) -> None:
        self.told: list[dict[str, str]] = []
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while text := self._socket.recv(4096).decode():
            self.told.append(dict(line.split("=", 1) for line in text.split("\n")))

    def all(self, key: str) -> list[str]:
        return [told[key] for told in self.told if key in told]

    def caught_up(self) -> int:
        """How many datagrams there were until now, when all of them have been read."""
        count = len(self.all("MARK"))
        self._tell(b"MARK=1")
        until(lambda: len(self.all("MARK")) > count, what="the mark")
        return len(self.told) - len(self.all("MARK"))

    def close(self) -> None:
        self._tell(b"")
        self._thread.join(PATIENCE)
        self._socket.close()

    def _tell(self, datagram: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(datagram, str(self.path))


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    yield manager
    manager.close()


def test_the_service_manager_is_told_each_step_in_order(tmp_path: Path, manager: Manager) -> None:
    models = '[models.a]\npreload = true\n[models.bad]\nfile = "fail=permanent"\n'
    with Server(tmp_path, ECHO + models) as server:
        until(lambda: manager.all("READY") == ["1"])
        until(lambda: "1 of 2 models ready" in manager.all("STATUS"))
        assert server.chat("bad", "x").status_code == 503
        until(lambda: "1 of 2 models ready, bad failed: load_error" in manager.all("STATUS"))
        before = time.monotonic_ns() // 1000
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len(manager.all("READY")) == 2)
        assert before <= int(manager.all("MONOTONIC_USEC")[-1]) <= time.monotonic_ns() // 1000
        server.write("nonsense =")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len(manager.all("READY")) == 3)
        assert manager.all("STATUS")[-1].startswith("reload refused: ")
        until(lambda: len(manager.all("WATCHDOG")) >= 3)
    kinds = [next(iter(told)) for told in manager.told]
    order = [kind for kind in kinds if kind not in ("WATCHDOG", "STATUS")]
    assert order == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
    assert manager.all("EXTEND_TIMEOUT_USEC") == ["53000000"]  # drain, stop, term, kill


def test_the_watchdog_is_not_fed_while_the_root_is_stopped_and_no_child_can_feed_it(
    tmp_path: Path, manager: Manager
) -> None:
    with Server(tmp_path, ECHO + "[models.a]\npreload = true\n") as server:
        until(lambda: server.state("a") == "ready")
        for process in server.family()[1:]:
            assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS"} & process.environ().keys()
        root = psutil.Process(server.process.pid)
        root.suspend()
        until(lambda: root.status() == psutil.STATUS_STOPPED)
        told = manager.caught_up()
        assert server.chat("a", "streams go on").status_code == 200
        time.sleep(0.4)  # four signs of life long
        assert manager.caught_up() == told
        root.resume()
        until(lambda: manager.caught_up() > told)


_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "supervisor", sys.argv[2]])
"""


def activated(file: Path, sock: socket.socket, log: Path) -> subprocess.Popen[bytes]:
    """A server that is given its listening socket, as systemd does it."""
    fd = sock.fileno()
    command = [sys.executable, "-c", _ACTIVATE, str(fd), str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("a") as stream:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stream, stderr=stream, pass_fds=[fd])


def test_clients_wait_in_the_service_managers_socket_while_the_whole_server_restarts(tmp_path: Path) -> None:
    file, path, log = tmp_path / "m.toml", tmp_path / "s.sock", tmp_path / "log"
    file.write_text(ECHO + "[models.a]\n")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        for number in range(2):
            transport = httpx.HTTPTransport(uds=str(path), verify=False)
            with httpx.Client(
                transport=transport, base_url="http://localhost", timeout=PATIENCE, verify=False
            ) as client:
                server = activated(file, sock, log)
                try:
                    reply = client.post("/v1/completions", json={"prompt": f"run {number}"})
                    assert reply.json()["choices"][0]["text"] == f"run {number}"
                    family = psutil.Process(server.pid).children(recursive=True)
                finally:
                    server.terminate()
                    assert server.wait(PATIENCE) == 0, log.read_text()
            assert still_there(family) == []
            assert path.exists()  # systemd goes on listening there
