"""What breaks, and what must not break with it: real processes, echo workers, real signals."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import PATIENCE, ROOT, Server, Stream, free_port, still_there, text_of, until
from tests.echo_worker import expected

ECHO = '[defaults]\nworker = "tests.echo_worker:main"\n'
AT_ONCE = '[restart]\nbackoff = "20ms"\n'
# A hang is found by these; a worker that only has to share its cores with others must not be taken for one.
QUICK = AT_ONCE + (
    '[liveness]\nping_interval = "200ms"\npong_timeout = "2s"\nstep_timeout = "1s"\nsuspended_timeout = "{suspended}"\n'
)
PAIR = "[models.a]\npreload = true\n[models.b]\npreload = true\n"
STORY = "one two three four five six seven eight nine ten " * 6
SLOW = '{"echo": {"rate": 40}} ' + STORY
ENDLESS = {"max_tokens": 1_000_000}  # with SLOW: hours


def both_ready(server: Server) -> None:
    until(lambda: server.state("a") == server.state("b") == "ready")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("standing"), AT_ONCE + ECHO + PAIR) as server:
        yield server


@pytest.fixture
def server(standing: Server) -> Server:
    """A server that lives through the fault, with both models ready whatever the last one was."""
    both_ready(standing)
    return standing


def beginning(text: str) -> bool:
    """Whether an endless reply to STORY begins so."""
    return "".join(expected(STORY, text.count(" ") + 2)).startswith(text)


def test_a_killed_worker_takes_its_own_streams_only_and_comes_back(server: Server) -> None:
    restarts = server.status("a")["restarts"]
    lost = [Stream(server, "a", SLOW, **ENDLESS).begun() for _ in range(3)]
    kept = [Stream(server, "b", SLOW).begun() for _ in range(3)]
    pid = server.kill("w:a")
    for stream in lost:
        stream.join()
        assert not stream.done
        assert stream.error["code"] == "worker_died"
        assert stream.error["cause"] == "killed"
        assert beginning(stream.text)
    assert text_of(server.chat("a", "back again")) == "back again"
    assert server.pid("w:a") not in (None, pid)
    assert server.status("a")["restarts"] == restarts + 1
    for stream in kept:
        stream.join()
        assert (stream.text, stream.done) == ("".join(expected(STORY)), True)


def test_an_unstreamed_request_gets_an_error_when_its_worker_dies(server: Server) -> None:
    response = server.chat("a", '{"echo": {"fault": "SIGSEGV", "at": 2}} ' + STORY)
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["code"], error["signal"]) == ("worker_died", "SIGSEGV")
    assert response.headers["x-should-retry"] == "false"
    assert server.told("Fatal Python error: Segmentation fault")


def test_a_killed_proxy_refuses_nobody_and_unloads_nothing(server: Server) -> None:
    workers = server.pid("w:a"), server.pid("w:b")
    generation = server.http.get("/v1/models/a").json()["runtime"]["generation"]
    refused: list[OSError] = []
    stop = threading.Event()

    def knock() -> None:
        while not stop.is_set():
            try:
                socket.create_connection(("127.0.0.1", server.port)).close()
            except OSError as error:
                refused.append(error)
            time.sleep(0.01)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    for _ in range(3):
        stream = Stream(server, "a", SLOW, **ENDLESS).begun()
        old = server.kill("proxy-0")
        stream.join()
        assert not stream.done
        assert Stream(server, "a", "next").join().text == "next"  # on a connection of its own
        until(lambda old=old: server.pid("proxy-0") not in (None, old))
    stop.set()
    thread.join()
    assert refused == []
    assert (server.pid("w:a"), server.pid("w:b")) == workers
    assert server.http.get("/v1/models/a").json()["runtime"]["generation"] == generation


@pytest.mark.parametrize("moment", ["serving", "loading", "stopped worker", "boot"])
def test_nothing_outlives_a_killed_root(tmp_path: Path, moment: str) -> None:
    server = Server(tmp_path, ECHO + '[models.a]\npreload = true\n[models.slow]\nfile = "load=3600"\n')
    try:
        server.start()
        if moment == "boot":
            time.sleep(random.Random(4).uniform(0.1, 0.4))
        else:
            until(server.healthy)
            until(lambda: server.state("a") == "ready")
        if moment == "loading":
            server.http.post("/models/load", json={"model": "slow"})
            until(lambda: server.pid("w:slow"))
        if moment == "stopped worker":
            server.kill("w:a", signal.SIGSTOP)
        family = server.family()
        server.process.kill()
        assert still_there(family) == []
    finally:
        server.end()


def test_a_stopped_worker_is_routed_around_and_resumes(tmp_path: Path) -> None:
    with Server(tmp_path, QUICK.format(suspended="1h") + ECHO + PAIR) as server:
        both_ready(server)
        stream = Stream(server, "a", SLOW).begun()
        pid = server.kill("w:a", signal.SIGSTOP)
        until(
            lambda: server.status("a")["state"] != "ready" or server.status("a").get("suspended"), what="it is reported"
        )
        waiting = Stream(server, "a", "patience")
        assert text_of(server.chat("b", "others go on")) == "others go on"
        assert not waiting.text
        server.kill("w:a", signal.SIGCONT)
        assert waiting.join().text == "patience"
        assert (stream.join().text, stream.done) == ("".join(expected(STORY)), True)
        assert server.pid("w:a") == pid


def test_workers_that_stand_still_are_found_and_killed_and_a_long_prompt_is_not_taken_for_that(tmp_path: Path) -> None:
    """In a loop of Python's, in C with the GIL held, stopped; and one that reads for long: all at once."""
    names = ("python", "c", "stopped", "reading")
    tables = "".join(f"[models.{name}]\npreload = true\n" for name in names)
    with Server(tmp_path, QUICK.format(suspended="2s") + ECHO + tables) as server:
        until(lambda: all(server.state(name) == "ready" for name in names))
        pids = {name: server.pid(f"w:{name}") for name in names}
        reading = Stream(server, "reading", '{"echo": {"prefill": 3}} worth the wait')
        lost = {
            "python": Stream(server, "python", '{"echo": {"fault": "hang", "at": 3, "rate": 50}} ' + STORY),
            "c": Stream(server, "c", '{"echo": {"fault": "hang_c", "at": 3, "rate": 50}} ' + STORY),
            "stopped": Stream(server, "stopped", SLOW, **ENDLESS).begun(),
        }
        server.kill("w:stopped", signal.SIGSTOP)
        for name, stream in lost.items():
            assert stream.join().error["code"] == "worker_hung", name
            assert text_of(server.chat(name, "recovered")) == "recovered"
            assert server.pid(f"w:{name}") not in (None, pids[name])
        assert server.told(" in fail", count=2)  # the stacks of two
        assert reading.join().text == "worth the wait"
        assert server.pid("w:reading") == pids["reading"]


def test_garbage_on_a_link_costs_the_link_and_the_third_time_the_worker(server: Server, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    # A request of which nothing has come before the garbage would be asked once more: this one has begun.
    garbage = json.dumps({"echo": {"fault": "garbage:unknown", "at": 2, "hold": str(hold)}}) + STORY

    def provoke() -> Stream:
        hold.touch()
        stream = Stream(server, "a", garbage).begun()
        hold.unlink()
        return stream.join()

    pid = until(lambda: server.pid("w:a"), what="a process w:a")
    for _ in range(2):
        assert provoke().error["code"] == "worker_died"
        assert text_of(server.chat("a", "fresh link")) == "fresh link"
        assert server.pid("w:a") == pid
    assert provoke().error["code"] == "worker_died"
    assert text_of(server.chat("a", "fresh worker")) == "fresh worker"
    assert server.pid("w:a") != pid
    assert text_of(server.chat("b", "untouched")) == "untouched"


def test_a_worker_that_always_dies_becomes_failed_with_its_cause_and_the_rest_serve(tmp_path: Path) -> None:
    quick = '[restart]\nbackoff = "20ms"\nmax_deaths = 3\n'
    with Server(tmp_path, quick + ECHO + '[models.a]\n[models.bad]\nfile = "crash=SIGABRT"\n') as server:
        response = server.chat("bad", "x")
        assert response.status_code == 503
        until(lambda: server.state("bad") == "failed")
        status = server.status("bad")
        assert (status["cause"], status["signal"], status["failed"]) == ("restart_limit", "SIGABRT", True)
        assert server.chat("bad", "x").json()["error"]["code"] == "model_failed"
        assert text_of(server.chat("a", "fine")) == "fine"
        assert server.log.read_text().count("ended role=w:bad") == 4


def test_sigterm_lets_streams_finish_and_exits_0(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + PAIR) as server:
        both_ready(server)
        streams = [Stream(server, model, SLOW).begun() for model in "abab"]
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert (stream.join().text, stream.done) == ("".join(expected(STORY)), True)
        assert server.process.wait(PATIENCE) == 0


def test_the_drain_deadline_ends_what_still_runs_with_an_error(tmp_path: Path) -> None:
    with Server(tmp_path, '[shutdown]\ndrain_timeout = "500ms"\n' + ECHO + PAIR) as server:
        both_ready(server)
        stream = Stream(server, "a", SLOW, **ENDLESS).begun()
        server.process.send_signal(signal.SIGTERM)
        assert stream.join().error["code"] == "shutting_down"
        assert not stream.done
        assert server.process.wait(PATIENCE) == 0


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    with Server(tmp_path, '[shutdown]\ndrain_timeout = "1h"\n' + ECHO + PAIR) as server:
        both_ready(server)
        stream = Stream(server, "a", SLOW, **ENDLESS).begun()
        for count in (1, 2):
            server.process.send_signal(signal.SIGTERM)
            assert server.told("received SIGTERM", count)
        assert stream.join().error is not None
        assert server.process.wait(PATIENCE) == 0


def test_a_reload_takes_limits_over_and_refuses_the_rest(server: Server) -> None:
    pids = server.pid("w:a"), server.pid("proxy-0")
    stream = Stream(server, "a", SLOW).begun()
    for toml, word in [
        ("nonsense =", "not TOML"),
        (AT_ONCE + ECHO + PAIR + "[ui]\nenabled = false\n", "restart of the server"),
        ("[placement]\nmax_models = 9\n" + AT_ONCE + ECHO + PAIR, "reloaded changed=placement"),
    ]:
        server.write(toml)
        server.process.send_signal(signal.SIGHUP)
        until(lambda word=word: word in server.log.read_text(), what=word)
    assert (stream.join().text, stream.done) == ("".join(expected(STORY)), True)
    assert (server.pid("w:a"), server.pid("proxy-0")) == pids


def test_a_load_survives_the_death_of_its_worker_and_of_the_standby(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with Server(tmp_path, AT_ONCE + ECHO + f'[models.a]\nfile = "gate={gate}"\n') as server:
        until(lambda: server.pid("standby"))
        old = server.kill("standby")
        until(lambda: server.pid("standby") not in (None, old), what="a new standby")
        stream = Stream(server, "a", "through it all")
        server.kill("w:a")
        gate.unlink()
        assert stream.join().text == "through it all"
        assert server.status("a")["restarts"] == 1


def test_several_addresses_and_a_unix_socket_serve_alike(tmp_path: Path) -> None:
    path, port = tmp_path / "s.sock", free_port()
    with Server(tmp_path, ECHO + "[models.a]\n", listen=[f"127.0.0.1:{port}", f"unix:{path}"]) as server:
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE, verify=False).status_code == 200
        transport = httpx.HTTPTransport(uds=str(path), verify=False)
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE) as client:
            assert client.get("/health").status_code == 200
            assert client.post("/v1/completions", json={"prompt": "by file"}).json()["choices"][0]["text"] == "by file"
        assert server.http.get("/health").status_code == 200
    assert not path.exists()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


def test_a_taken_port_is_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        file.write_text(f'[server]\nlisten = ["{address}"]\n' + ECHO + "[models.a]\n")
        ended = run(str(file))
    assert ended.returncode == 1
    assert ended.stderr.strip() == f"cannot listen on {address}: the address is in use by another process"


def test_a_wrong_configuration_exits_78_and_check_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(ECHO + "[models.a]\nn_ctxx = 5\n")
    for arguments in ([str(file)], ["check", str(file)]):
        ended = run(*arguments)
        assert ended.returncode == 78
        assert ended.stderr.strip() == f'{file}: [models.a].n_ctxx: expected a known key, got 5; did you mean "n_ctx"?'
    file.write_text(ECHO + "[models.a]\n")
    ended = run("check", str(file))
    assert ended.returncode == 0
    assert "correct" in ended.stdout


def test_a_proxy_that_always_dies_ends_the_root_with_1(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + "[models.a]\n") as server:
        deaths = 0
        while (pid := until(lambda: server.process.poll() is not None or server.pid("proxy-0"))) is not True:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            deaths += 1
            until(lambda pid=pid: server.process.poll() is not None or server.pid("proxy-0") != pid)
        assert server.process.wait(PATIENCE) == 1
        assert deaths >= 5  # within a minute: on a slow machine it may need some more
        assert "keeps dying" in server.log.read_text()
