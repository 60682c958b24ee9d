"""Another configuration, variants, other settings for one load, and a load without memory, on the real server."""

from __future__ import annotations

import hashlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import echo_worker
from tests.e2e.server import PATIENCE, ROOT, Server, Stream, text_of, until

WORKER = 'worker = "tests.echo_worker:main"\n'
ECHO = f"[models.echo]\n{WORKER}"
WORDS = " ".join(f"word{number}" for number in range(160))
PACED = f'{{"echo": {{"rate": 80}}}}{WORDS}'  # two seconds
BAD = [
    "[models.echo",
    f"{ECHO}n_ctx = 'x'\n",
    f"{ECHO}nonsense = 1\n",
    f"{ECHO}aliases = ['a', 'a']\n",
    f"{ECHO}[models.far]\npath = 'none.gguf'\n",
    f"{ECHO}[ui]\nenabled = false\n",
]
GOOD = [
    ECHO,
    f"{ECHO}[admission]\nmax_queue = 7\n",
    f"{ECHO}aliases = ['other']\ndescription = 'x'\n",
    f"{ECHO}[models.v]\nbase = 'echo'\n[log]\nlevel = 'debug'\n",
]


def reload(server: Server, toml: str | None = None, **headers: str) -> httpx.Response:
    if toml is not None:
        server.write(toml)
    return server.http.post("/admin/reload", headers=headers)


def listed(server: Server, **params: Any) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in server.http.get("/models", params=params).json()["data"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("reload"), ECHO) as running:
        yield running


@pytest.fixture
def server(shared: Server) -> Server:
    """With model echo alone, as it is in the file."""
    assert reload(shared, ECHO).status_code == 200
    until(lambda: list(listed(shared)) == ["echo"], what="the model of the file alone")
    return shared


def test_no_stream_loses_a_token_through_twenty_reloads_good_and_bad(server: Server) -> None:
    server.chat("echo", "hello")
    pid = server.pid("w:echo")
    streams = [Stream(server, "echo", PACED) for _ in range(3)]
    for stream in streams:
        stream.begun()
    texts = zip(range(20), itertools.cycle(GOOD), itertools.cycle(BAD), strict=False)
    for number, good, bad in texts:
        toml = bad if number % 2 else good
        if number % 5 == 4:
            server.write(toml)
            server.process.send_signal(signal.SIGHUP)
        assert reload(server, toml).status_code == (400 if number % 2 else 200), toml
    for stream in streams:
        assert stream.join().done
        assert stream.text == "".join(echo_worker.expected(WORDS))
    assert server.pid("w:echo") == pid


def test_a_wrong_file_is_told_with_its_place_and_nothing_changes(server: Server) -> None:
    error = reload(server, f"{ECHO}n_ctx = 'x'\n[models.new]\n{WORKER}").json()["error"]
    assert (error["code"], error["table"], error["key"]) == ("config_invalid", "models.echo", "n_ctx")
    assert error["file"] == str(server.file)
    assert error["message"].startswith(f"{server.file}: [models.echo].n_ctx: expected integer")
    answer = server.http.get("/models", params={"reload": "1"}).json()
    assert "[models.echo].n_ctx" in answer["reload_error"]
    assert [entry["id"] for entry in answer["data"]] == ["echo"]
    server.write(ECHO + f"[models.new]\n{WORKER}")
    assert set(listed(server, reload="1")) == {"echo", "new"}


def test_a_model_that_changed_finishes_its_stream_and_is_loaded_anew_when_needed(server: Server) -> None:
    reload(server, f"{ECHO}[models.idle]\n{WORKER}[models.gone]\n{WORKER}")
    for name in ("echo", "idle", "gone"):
        server.chat(name, "hello")
    stream = Stream(server, "echo", PACED).begun()
    answer = reload(server, f"{ECHO}n_ctx = 99\n[models.idle]\n{WORKER}[models.new]\n{WORKER}").json()
    expected = {"added": ["new"], "removed": ["gone"], "changed": ["echo"], "restarting": ["echo"]}
    assert answer == {"success": True} | expected
    assert stream.join().text == "".join(echo_worker.expected(WORDS))
    until(lambda: server.state("echo") == "unloaded", what="the drain")
    assert server.state("idle") == "ready"
    assert text_of(server.chat("echo", "again")) == "again"
    assert listed(server)["echo"]["context_length"] == 99
    until(lambda: "gone" not in listed(server), what="the end of the removed model")


def test_every_proxy_takes_keys_over_and_what_sockets_are_made_of_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path, ECHO)
    server.head += "proxies = 2\n"
    server.write(ECHO)
    digest = hashlib.sha256(b"secret").hexdigest()
    keys = f'[[keys]]\nname = "me"\nadmin = true\nsha256 = "{digest}"\n'
    headers = {"authorization": "Bearer secret"}

    def status(headers: dict[str, str] | None = None) -> int:
        return httpx.get(f"{server.url}/models", headers=headers, timeout=PATIENCE, verify=False).status_code

    with server:
        assert reload(server, f"{ECHO}{keys}").status_code == 200
        # each connection is accepted by one of the two
        until(lambda: {status() for _ in range(16)} == {401}, what="both to know it")
        assert {status(headers) for _ in range(16)} == {200}
        server.head = server.head.replace("proxies = 2", "proxies = 3")
        assert reload(server, ECHO, **headers).json()["error"]["table"] == "server"
        assert status() == 401
        old = server.kill("proxy-0")  # one that starts later begins with what counts
        until(lambda: server.pid("proxy-0") not in (None, old), what="its restart")
        assert {status() for _ in range(16)} == {401}


def test_the_command_line_tells_what_has_changed_or_what_is_wrong(server: Server) -> None:
    command = [sys.executable, "-m", "supervisor", "ctl", "--url", server.url, "reload"]
    run = partial(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    server.write(f"{ECHO}[models.new]\n{WORKER}")
    assert "new" in run().stdout
    server.write(f"{ECHO}n_ctx = 'x'\n")
    failed = run()
    assert failed.returncode != 0
    assert "[models.echo].n_ctx: expected integer" in failed.stderr


def test_a_variant_shares_the_load_of_its_base(server: Server) -> None:
    variant = (
        '[models.brief]\nbase = "echo"\naliases = ["b"]\nforce = { max_tokens = 2 }\nsystem_prompt = "Be brief."\n'
    )
    reload(server, f"{ECHO}{variant}[models.brief.sampling]\nseed = 5\n")
    assert text_of(server.chat("b", "one two three")) == "one two"
    assert text_of(server.chat("b", "one two three", max_tokens=3)) == "one two"
    assert text_of(server.chat("echo", "one two three")) == "one two three"
    assert server.chat("b", "x").json()["model"] == "brief"
    found = listed(server)
    assert found["brief"]["status"] == found["echo"]["status"]
    assert found["brief"]["base"] == "echo"
    assert sum("w:echo" in title for title in server.titles().values()) == 1
    rendered = server.http.post("/apply-template", json={"model": "b", "messages": [{"role": "user", "content": "x"}]})
    assert rendered.json()["prompt"].startswith("system: Be brief.\n")
    unloaded = server.http.post("/models/unload", json={"model": "brief", "wait": True}).json()
    assert (unloaded["base"], unloaded["status"]["state"], server.state("echo")) == ("echo", "unloaded", "unloaded")
    reload(server, f'{ECHO}[models.brief]\nbase = "echo"\n')
    assert text_of(server.chat("brief", "one two three")) == "one two three"


def test_a_load_with_other_settings_holds_until_it_is_unloaded(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    keys = f'[[keys]]\nname = "me"\nadmin = true\nsha256 = "{digest}"\n[admission]\nallow_load_overrides = true\n'
    with Server(tmp_path, f"{keys}{ECHO}") as server:
        server.http.headers["authorization"] = "Bearer secret"
        server.chat("echo", "hello")
        body = {"model": "echo", "overrides": {"n_ctx": 77, "parallel": 2}, "wait": True}
        assert server.http.post("/models/load", json=body).json()["status"]["state"] == "ready"
        assert listed(server)["echo"]["context_length"] == 77
        assert server.status("echo")["overrides"] == {"n_ctx": 77, "parallel": 2}
        assert listed(server)["echo"]["runtime"]["slots"]["total"] == 2
        server.kill("w:echo")
        until(lambda: server.status("echo")["restarts"] and server.state("echo") == "ready", what="the restart")
        assert listed(server)["echo"]["context_length"] == 77
        server.http.post("/models/unload", json={"model": "echo", "wait": True})
        assert "overrides" not in server.status("echo")
        server.chat("echo", "hello")
        assert listed(server)["echo"]["context_length"] == 4096


def test_a_load_without_memory_has_an_idle_model_go_and_stays_loading(tmp_path: Path) -> None:
    hurdle = tmp_path / "hurdle"
    hurdle.touch()
    tight = f'[models.tight]\n{WORKER}file = "load=0.2,hurdle={hurdle}"\n'
    hopeless = f'[models.hopeless]\n{WORKER}file = "fail=out_of_memory"\n'
    with Server(tmp_path, f"{ECHO}{tight}{hopeless}") as server:
        server.chat("echo", "hello")
        with server.http.stream("GET", "/models/sse", params={"snapshot": "0"}) as events:
            answer = server.chat("tight", "made it")
            assert text_of(answer) == "made it"
            told = []
            for line in events.iter_lines():
                told += [line] if "tight" in line else []
                if told and '"loaded"' in told[-1]:
                    break
        assert "unloaded" not in "".join(told)
        assert server.status("echo")["stop_reason"] == "evicted"
        refused = server.chat("hopeless", "no").json()["error"]
        assert (refused["status"], refused["cause"]) == (503, "out_of_memory")
        assert server.state("hopeless") == "failed"
        assert server.log.read_text().count("trying once more") == 2
