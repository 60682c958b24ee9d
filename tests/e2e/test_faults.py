"""What breaks, and what must not break with it: real processes, echo workers, real signals."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import ROOT, Server, Stream, free_port, still_there, text_of, until
from tests.echo_worker import expected

ECHO = '[defaults]\nworker = "tests.echo_worker:main"\n'
QUICK = (
    '[liveness]\nping_interval = "200ms"\npong_timeout = "1s"\nstep_timeout = "1s"\nsuspended_timeout = "{suspended}"\n'
)
PAIR = "[models.a]\npreload = true\n[models.b]\npreload = true\n"
STORY = "one two three four five six seven eight nine ten " * 6
SLOW = '{"echo": {"rate": 40}} ' + STORY


def both_ready(server: Server) -> None:
    until(lambda: server.state("a") == server.state("b") == "ready", 10)


def test_a_killed_worker_takes_its_own_streams_only_and_comes_back(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + PAIR) as server:
        both_ready(server)
        lost = [Stream(server, "a", SLOW).begun() for _ in range(3)]
        kept = [Stream(server, "b", SLOW).begun() for _ in range(3)]
        pid = server.kill("w:a")
        for stream in lost:
            stream.join(2)
            assert not stream.done
            assert stream.error["code"] == "worker_died"
            assert stream.error["cause"] == "killed"
            assert "".join(expected(STORY)).startswith(stream.text)
        assert text_of(server.chat("a", "back again")) == "back again"
        assert server.pid("w:a") not in (None, pid)
        assert server.status("a")["restarts"] == 1
        for stream in kept:
            stream.join()
            assert (stream.text, stream.done) == ("".join(expected(STORY)), True)


def test_an_unstreamed_request_gets_an_error_when_its_worker_dies(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + "[models.a]\npreload = true\n") as server:
        response = server.chat("a", '{"echo": {"fault": "SIGSEGV", "at": 2}} ' + STORY)
        assert response.status_code == 500
        error = response.json()["error"]
        assert (error["code"], error["signal"]) == ("worker_died", "SIGSEGV")
        assert response.headers["x-should-retry"] == "false"
        assert "Fatal Python error: Segmentation fault" in until(lambda: server.log.read_text(), 1)


def test_a_killed_proxy_refuses_nobody_and_unloads_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + PAIR) as server:
        both_ready(server)
        workers = server.pid("w:a"), server.pid("w:b")
        refused: list[OSError] = []
        stop = threading.Event()

        def knock() -> None:
            while not stop.is_set():
                try:
                    socket.create_connection(("127.0.0.1", server.port)).close()
                except OSError as error:
                    refused.append(error)
                time.sleep(0.002)

        thread = threading.Thread(target=knock, daemon=True)
        thread.start()
        for _ in range(3):
            stream = Stream(server, "a", SLOW).begun()
            old = server.kill("proxy-0")
            stream.join(2)
            assert not stream.done
            assert Stream(server, "a", "next").join().text == "next"  # on a connection of its own
            until(lambda old=old: server.pid("proxy-0") not in (None, old), 2)
        stop.set()
        thread.join()
        assert refused == []
        assert (server.pid("w:a"), server.pid("w:b")) == workers
        assert server.http.get("/v1/models/a").json()["runtime"]["generation"] == 1


@pytest.mark.parametrize("moment", ["serving", "loading", "stopped worker", "boot"])
def test_nothing_outlives_a_killed_root(tmp_path: Path, moment: str) -> None:
    server = Server(tmp_path, ECHO + '[models.a]\npreload = true\n[models.slow]\nfile = "load=30"\n')
    try:
        server.start()
        if moment == "boot":
            time.sleep(random.Random(4).uniform(0.1, 0.4))
        else:
            until(server.healthy, 20)
            until(lambda: server.state("a") == "ready", 5)
        if moment == "loading":
            server.http.post("/models/load", json={"model": "slow"})
            until(lambda: server.pid("w:slow"), 5)
        if moment == "stopped worker":
            server.kill("w:a", signal.SIGSTOP)
        family = server.family()
        server.process.kill()
        assert still_there(family, within=1.0) == []
    finally:
        server.process.kill()
        server.process.wait(5)
        server.http.close()


def test_a_stopped_worker_is_routed_around_and_resumes(tmp_path: Path) -> None:
    with Server(tmp_path, QUICK.format(suspended="60s") + ECHO + PAIR) as server:
        both_ready(server)
        stream = Stream(server, "a", SLOW).begun()
        pid = server.kill("w:a", signal.SIGSTOP)
        until(
            lambda: server.status("a")["state"] != "ready" or server.status("a").get("suspended"), 3, "it is reported"
        )
        waiting = Stream(server, "a", "patience")
        assert text_of(server.chat("b", "others go on")) == "others go on"
        assert not waiting.text
        server.kill("w:a", signal.SIGCONT)
        assert waiting.join().text == "patience"
        assert (stream.join().text, stream.done) == ("".join(expected(STORY)), True)
        assert server.pid("w:a") == pid


def test_a_worker_that_stays_stopped_is_killed_by_its_deadline(tmp_path: Path) -> None:
    with Server(tmp_path, QUICK.format(suspended="2s") + ECHO + "[models.a]\npreload = true\n") as server:
        until(lambda: server.state("a") == "ready", 5)
        stream = Stream(server, "a", SLOW).begun()
        pid = server.kill("w:a", signal.SIGSTOP)
        assert stream.join(6).error["code"] == "worker_hung"
        assert text_of(server.chat("a", "new")) == "new"
        assert server.pid("w:a") != pid


@pytest.mark.parametrize(("fault", "where"), [("hang", "in fail"), ("hang_c", "in fail")])
def test_a_hang_is_found_dumped_and_killed(tmp_path: Path, fault: str, where: str) -> None:
    with Server(tmp_path, QUICK.format(suspended="60s") + ECHO + "[models.a]\npreload = true\n") as server:
        until(lambda: server.state("a") == "ready", 5)
        begin = time.monotonic()
        stream = Stream(server, "a", f'{{"echo": {{"fault": "{fault}", "at": 3, "rate": 50}}}} ' + STORY).join(10)
        assert stream.error["code"] == "worker_hung"
        assert time.monotonic() - begin < 1 + 2 + 1
        assert text_of(server.chat("a", "recovered")) == "recovered"
        until(lambda: where in server.log.read_text(), 3, "a stack dump")


def test_a_long_prompt_is_not_taken_for_a_hang(tmp_path: Path) -> None:
    with Server(tmp_path, QUICK.format(suspended="60s") + ECHO + "[models.a]\npreload = true\n") as server:
        until(lambda: server.state("a") == "ready", 5)
        pid = server.pid("w:a")
        assert text_of(server.chat("a", '{"echo": {"prefill": 3}} worth the wait')) == "worth the wait"
        assert server.pid("w:a") == pid


def test_garbage_on_a_link_costs_the_link_and_the_third_time_the_worker(tmp_path: Path) -> None:
    # Slowly: a request whose acceptance lies in the same frame as the garbage has not begun, and is asked once more.
    garbage = '{"echo": {"fault": "garbage", "at": 2, "rate": 10}} ' + STORY
    with Server(tmp_path, ECHO + PAIR) as server:
        both_ready(server)
        pid = until(lambda: server.pid("w:a"), 5, "a process w:a")
        for _ in range(2):
            response = server.chat("a", garbage)
            assert response.status_code == 500
            assert text_of(server.chat("a", "fresh link")) == "fresh link"
            assert server.pid("w:a") == pid
        server.chat("a", garbage)
        assert text_of(server.chat("a", "fresh worker")) == "fresh worker"
        assert server.pid("w:a") != pid
        assert text_of(server.chat("b", "untouched")) == "untouched"


def test_a_worker_that_always_dies_becomes_failed_with_its_cause_and_the_rest_serve(tmp_path: Path) -> None:
    quick = '[restart]\nbackoff = "20ms"\nmax_deaths = 3\n'
    with Server(tmp_path, quick + ECHO + '[models.a]\n[models.bad]\nfile = "crash=SIGABRT"\n') as server:
        response = server.chat("bad", "x")
        assert response.status_code == 503
        until(lambda: server.state("bad") == "failed", 10)
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
        assert server.process.wait(5) == 0


def test_the_drain_deadline_ends_what_still_runs_with_an_error(tmp_path: Path) -> None:
    with Server(tmp_path, '[shutdown]\ndrain_timeout = "500ms"\n' + ECHO + PAIR) as server:
        both_ready(server)
        stream = Stream(server, "a", '{"echo": {"rate": 1}} ' + STORY).begun()
        server.process.send_signal(signal.SIGTERM)
        assert stream.join(3).error["code"] == "shutting_down"
        assert not stream.done
        assert server.process.wait(5) == 0


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + PAIR) as server:
        both_ready(server)
        stream = Stream(server, "a", '{"echo": {"rate": 1}} ' + STORY).begun()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        assert stream.join(3).error is not None
        assert server.process.wait(5) == 0


def test_a_reload_takes_limits_over_and_refuses_the_rest(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + PAIR) as server:
        both_ready(server)
        pids = server.pid("w:a"), server.pid("proxy-0")
        stream = Stream(server, "a", SLOW).begun()
        for toml, word in [
            ("nonsense =", "not TOML"),
            (ECHO + PAIR + "[ui]\nenabled = false\n", "restart of the server"),
            ("[placement]\nmax_models = 9\n" + ECHO + PAIR, "reloaded changed=placement"),
        ]:
            server.write(toml)
            server.process.send_signal(signal.SIGHUP)
            until(lambda word=word: word in server.log.read_text(), 3, word)
        assert (stream.join().text, stream.done) == ("".join(expected(STORY)), True)
        assert (server.pid("w:a"), server.pid("proxy-0")) == pids


def test_a_load_survives_the_death_of_its_worker_and_of_the_standby(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + '[models.a]\nfile = "load=1"\n') as server:
        until(lambda: server.pid("standby"), 5)
        old = server.kill("standby")
        until(lambda: server.pid("standby") not in (None, old), 5, "a new standby")
        stream = Stream(server, "a", "through it all")
        server.kill("w:a")
        assert stream.join(10).text == "through it all"
        assert server.status("a")["restarts"] == 1


def test_several_addresses_and_a_unix_socket_serve_alike(tmp_path: Path) -> None:
    path, port = tmp_path / "s.sock", free_port()
    with Server(tmp_path, ECHO + "[models.a]\n", listen=[f"127.0.0.1:{port}", f"unix:{path}"]) as server:
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost") as client:
            assert client.get("/health").status_code == 200
            assert client.post("/v1/completions", json={"prompt": "by file"}).json()["choices"][0]["text"] == "by file"
        assert server.http.get("/health").status_code == 200
    assert not path.exists()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)


def test_a_taken_port_is_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
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
        for _ in range(5):
            until(lambda: server.process.poll() is not None or server.pid("proxy-0"), 20)
            if server.process.poll() is None:
                pid = server.kill("proxy-0")
                until(lambda pid=pid: server.process.poll() is not None or server.pid("proxy-0") != pid, 5)
        assert server.process.wait(5) == 1
        assert "keeps dying" in server.log.read_text()
