"""`python -m supervisor ctl` against a real server with echo workers."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server import PATIENCE, ROOT, Server, Stream, until
from tests.supervisor.ctl.standin import Ctl

TOML = """\
[defaults]
worker = "tests.echo_worker:main"
[models.a]
aliases = ["default"]
preload = true
[models.counting]
file = "rate=50"
[models.broken]
file = "fail=permanent"
[models.slow]
file = "gate={gate}"
"""
LONG = "one two three four five six seven eight nine ten"
ENDLESS = {"max_tokens": 1_000_000}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ctl")
    with Server(folder, TOML.format(gate=gate_of(folder)), [f"unix:{folder}/x.sock"]) as running:
        until(lambda: running.state("a") == "ready")
        yield running


def gate_of(folder: Path) -> Path:
    """While this file is there, model slow does not finish its load."""
    return folder / "gate"


@pytest.fixture
def gate(server: Server) -> Iterator[Path]:
    found = gate_of(server.file.parent)
    found.touch()
    yield found
    found.unlink(missing_ok=True)


@pytest.fixture
def ctl(server: Server, capsys: Capture) -> Ctl:
    return Ctl(capsys, "--url", server.url)


def command(server: Server, *words: str) -> list[str]:
    return [sys.executable, "-m", "supervisor", "ctl", "--url", server.url, *words]


class Terminal:
    """A command on a terminal of this width."""

    def __init__(self, server: Server, *words: str, width: int) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, width))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        environment = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "COLUMNS")}
        self.process = subprocess.Popen(
            command(server, *words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT
        )
        os.close(theirs)
        self.text = ""

    def shows(self, *words: str, within: float = PATIENCE) -> bool:
        """Whether all of these have been on the screen."""
        deadline = time.monotonic() + within
        while not all(word in self.text for word in words) and time.monotonic() < deadline:
            self._read(deadline)
        return all(word in self.text for word in words)

    def end(self, within: float = PATIENCE) -> int:
        """The exit code, once it has ended by itself."""
        deadline = time.monotonic() + within
        while self._read(deadline):
            pass
        os.close(self._ours)
        return self.process.wait(within)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody has it open any longer
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)


# -- looking ----------------------------------------------------------------------------------------------------------


def test_status_is_a_table_without_colours_where_nobody_looks(ctl: Ctl) -> None:
    ran = ctl("status")
    assert (ran.code, ran.err) == (0, "")
    head, *lines = ran.out.splitlines()
    assert head.split()[:2] == ["model", "state"]
    found = {line.split()[0]: line.split() for line in lines}
    assert set(found) == {"a", "broken", "counting", "slow"}
    assert (found["a"][1], found["a"][4]) == ("ready", "MiB")
    assert "\x1b" not in ran.out
    assert not any(line.endswith(" ") for line in ran.out.splitlines())


def test_status_of_one_model_by_its_alias(ctl: Ctl) -> None:
    ran = ctl("status", "default")
    assert ran.code == 0
    assert ran.out.splitlines()[1].split()[:2] == ["a", "ready"]
    assert "aliases    default" in ran.out
    one = ctl("--json", "status", "default").json
    assert (one["id"], one["status"]["state"], one["live"]["in_flight"]) == ("a", "ready", 0)
    assert one["live"]["resident_bytes"] > 1e6


def test_status_as_json_is_every_model(ctl: Ctl, server: Server) -> None:
    def alike() -> bool:
        found = ctl("status", "--json").json
        listed = server.http.get("/models").json()["data"]
        return [{name: model[name] for name in model if name != "live"} for model in found] == listed

    until(alike, what="the list, while nothing changes")


def test_a_terminal_has_colours_and_no_line_is_broken(server: Server) -> None:
    terminal = Terminal(server, "status", width=50)
    assert terminal.end() == 0
    assert "\x1b[32mready" in terminal.text
    assert "restarts" not in terminal.text
    assert len(terminal.text.splitlines()) == 5


def test_top_is_live_until_interrupted(server: Server) -> None:
    stream = Stream(server, "counting", LONG, **ENDLESS).begun()
    terminal = Terminal(server, "top", "--interval", "0.2", width=150)
    try:
        assert terminal.shows("4 models ready", "counting", "generating", "all/s", "1 in flight")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
    finally:
        terminal.process.kill()
        stream.leave()
        stream.join()


def test_status_is_watched_in_plain_lines(server: Server) -> None:
    words = ("status", "a", "--watch", "--json", "--interval", "0.1")
    with subprocess.Popen(command(server, *words), stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert all(process.stdout.readline().startswith(b'[{"id":"a"') for _ in range(3))
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_reader_that_has_had_enough_is_no_error(server: Server) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(command(server, "logs"), stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, timeout=PATIENCE)
    finally:
        os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, b"")


# -- loading ----------------------------------------------------------------------------------------------------------


def test_load_and_unload(ctl: Ctl, server: Server, gate: Path) -> None:
    ran = ctl("load", "slow")
    assert (ran.code, ran.out) == (0, "slow: loading\n")
    opening = threading.Timer(0.3, gate.unlink)
    opening.start()
    ran = ctl("load", "slow", "--wait")
    opening.join()
    assert (ran.code, ran.out.startswith("slow: ready after")) == (0, True)
    assert server.state("slow") == "ready"
    assert ctl("load", "slow").out == "slow: loaded or loading already\n"
    assert ctl("load", "slow", "--json").json == {"success": True, "already": True}
    ran = ctl("unload", "slow", "--wait")
    assert (ran.code, ran.out.startswith("slow: unloaded after")) == (0, True)
    assert server.state("slow") == "unloaded"
    assert ctl("unload", "slow", "--wait").out == "slow: not loaded\n"


def test_a_load_is_a_bar_on_a_terminal(server: Server, ctl: Ctl, gate: Path) -> None:
    ctl("unload", "slow", "--wait")
    terminal = Terminal(server, "load", "slow", "--wait", width=100)
    assert terminal.shows("━", "% loading")
    gate.unlink()
    assert terminal.end() == 0
    assert "slow: ready after" in terminal.text
    ctl("unload", "slow", "--wait")


def test_a_wait_has_an_end(ctl: Ctl, gate: Path) -> None:
    ran = ctl("load", "slow", "--wait", "--timeout", "0.1")
    assert (ran.code, ran.out) == (1, "")
    assert "slow" in ran.err
    gate.unlink()
    ctl("load", "slow", "--wait")
    assert ctl("unload", "slow", "--wait").code == 0


def test_a_load_that_fails_is_1_with_its_cause_and_stays_in_the_table(ctl: Ctl) -> None:
    ran = ctl("load", "broken", "--wait")
    assert (ran.code, ran.out) == (1, "")
    assert "told to fail" in ran.err
    ran = ctl("load", "broken", "--wait", "--json")
    assert (ran.code, ran.json["error"]["cause"], ran.err) == (1, "load_error", "")
    line = next(line for line in ctl("status").out.splitlines() if line.startswith("broken"))
    assert line.split()[1] == "failed"
    assert line.endswith("load_error: told to fail: permanent")
    ran = ctl("status", "broken")
    assert "its last words:" in ran.out


@pytest.mark.parametrize(
    "words", [("status",), ("load",), ("unload",), ("logs",), ("logs", "-f"), ("requests", "--model")]
)
def test_an_unknown_model_has_a_near_miss(ctl: Ctl, words: tuple[str, ...]) -> None:
    ran = ctl(*words, "slwo")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == 'ctl: model "slwo" not found; did you mean "slow"?\n'


def test_a_crash_is_the_last_failure(server: Server, ctl: Ctl) -> None:
    server.kill("w:a")
    until(lambda: server.status("a")["restarts"] >= 1 and server.state("a") == "ready")
    line = until(lambda: next(s for s in ctl("status").out.splitlines() if s.startswith("a ") and "killed" in s))
    assert line.split()[1] == "ready"
    assert ctl("status", "a", "--json").json["live"]["restarts_by_cause"] == {"killed": 1}


# -- requests and logs ------------------------------------------------------------------------------------------------


def test_a_request_is_seen_and_cancelled(ctl: Ctl, server: Server) -> None:
    until(lambda: ctl("requests", "--model", "counting").err == "no request is running\n")
    stream = Stream(server, "counting", LONG, **ENDLESS).begun()
    line = ctl("requests").out.splitlines()[1].split()
    assert line[1:3] == ["counting", "generating"]
    (row,) = ctl("requests", "--json").json
    assert row["id"] == line[0]
    assert ctl("status", "counting", "--json").json["live"]["in_flight"] == 1
    ran = ctl("cancel", "nobody", row["id"])
    assert (ran.code, ran.out) == (1, f"{row['id']}: cancelled\n")
    assert ran.err == 'ctl: no request "nobody" is running\n'
    assert (stream.join().error or {})["code"] == "cancelled"
    until(lambda: ctl("requests", "--json").json == [])
    ended = ctl("requests", "--ended").out
    assert any(row["id"] in line and "cancelled" in line for line in ended.splitlines())


def test_logs_of_one_process_and_of_all(ctl: Ctl) -> None:
    ran = ctl("logs")
    assert ran.code == 0
    assert any(line.startswith("root ") for line in ran.out.splitlines())
    assert ctl("logs", "-n", "2").out.splitlines() == ctl("logs").out.splitlines()[-2:]
    assert ctl("logs", "-n", "0").out == ""
    assert "loaded" in ctl("logs", "default").out


def test_logs_are_followed_until_interrupted(server: Server, ctl: Ctl) -> None:
    ctl("load", "slow", "--wait")
    before = ctl("status", "slow", "--json").json["runtime"]["generation"]
    ctl("unload", "slow", "--wait")
    terminal = Terminal(server, "logs", "-f", "slow", width=200)
    try:
        assert terminal.shows(f"generation={before}")  # what was there: from now on it follows
        ctl("load", "slow", "--wait")
        assert terminal.shows(f"generation={before + 1}")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
    finally:
        terminal.process.kill()


# -- other ways in ----------------------------------------------------------------------------------------------------


def test_a_unix_socket_and_the_configuration_lead_there(server: Server, capsys: Capture) -> None:
    ran = Ctl(capsys, "--url", f"unix:{server.file.parent}/x.sock")("status", "a")
    assert (ran.code, "ready" in ran.out) == (0, True)
    ran = Ctl(capsys, "--config", str(server.file))("status", "a")
    assert (ran.code, "ready" in ran.out) == (0, True)


def test_keys_decide_what_may_be_asked(tmp_path: Path, capsys: Capture) -> None:
    tables, files = 'root_path = "/llm"\n', {}
    for name, more in (("boss", 'models = ["*"]\nadmin = true'), ("guest", 'models = ["a"]')):
        files[name] = tmp_path / name
        files[name].write_text(f"lsv-{name}\n")
        digest = hashlib.sha256(f"lsv-{name}".encode()).hexdigest()
        tables += f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\n{more}\n'
    wrong = tmp_path / "wrong"
    wrong.write_text("lsv-wrong")
    server = Server(tmp_path, tables + TOML.format(gate=""))
    server.http.base_url = f"{server.url}/llm"
    with server:
        there = ("--config", str(server.file))
        ran = Ctl(capsys, *there)("status")
        assert (ran.code, "no key was sent" in ran.err) == (77, True)
        ran = Ctl(capsys, *there, "--key-file", str(wrong))("status")
        assert (ran.code, "does not know this key" in ran.err, "lsv-wrong" in ran.err) == (77, True, False)
        guest = Ctl(capsys, *there, "--key-file", str(files["guest"]))
        assert [line.split()[0] for line in guest("status").out.splitlines()] == ["model", "a"]
        assert guest("logs").code == guest("unload", "--all").code == 77
        ran = guest("load", "counting")
        assert (ran.code, "not found" in ran.err) == (1, True)
        boss = Ctl(capsys, *there, "--key-file", str(files["boss"]))
        assert len(boss("status").out.splitlines()) == 5
        assert boss("logs").code == 0
        until(lambda: "ready" in boss("status", "a").out)
        ran = boss("unload", "--all")
        assert (ran.code, ran.out) == (0, "all models: unloaded\n")
        assert "unloaded" in boss("status", "a").out


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_stop_lets_streams_finish_and_waits_for_the_end(tmp_path: Path, capsys: Capture, way: str) -> None:
    socket = f"unix:{tmp_path}/x.sock"
    with Server(tmp_path, TOML.format(gate=""), [socket]) as server:
        stream = Stream(server, "counting", LONG, max_tokens=50).begun()
        ran = Ctl(capsys, "--url", socket if way == "unix" else server.url)("stop")
        assert (ran.code, ran.out) == (0, "stopped\n")
        assert server.process.poll() == 0
        assert (stream.join().done, stream.error) == (True, None)
        assert Ctl(capsys, "--url", server.url)("stop").code == 69


def test_stop_now_waits_for_no_stream(tmp_path: Path, capsys: Capture) -> None:
    with Server(tmp_path, TOML.format(gate="")) as server:
        stream = Stream(server, "counting", LONG, **ENDLESS).begun()
        assert Ctl(capsys, "--url", server.url, "--json")("stop", "--now").json["pid"] == server.process.pid
        assert server.process.poll() == 0
        assert stream.join().error is not None
        assert server.log.read_text().count("received SIGTERM") == 2
