"""Models fetched from a stand-in of a hub, by the real server: listed, followed, served, cancelled, deleted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import models
from tests.e2e.server import PATIENCE, ROOT, Server, Stream, still_there, until
from tests.hub import SIGNATURE, Faults, Hub

TOKEN = "hf_verysecrettoken"
ECHO = '[models.echo]\nworker = "tests.echo_worker:main"\n'
NAME = "u/r:Q4_K_M"
FILE = "r-Q4_K_M.gguf"


@pytest.fixture(scope="module")
def data() -> bytes:
    return Path(models.tiny()).read_bytes()


@pytest.fixture(scope="module")
def shared_hub(data: bytes) -> Iterator[Hub]:
    with Hub(TOKEN) as stand_in:
        stand_in.add("u/r", {FILE: data, "r-Q8_0.gguf": data})
        yield stand_in


@pytest.fixture
def hub(shared_hub: Hub) -> Iterator[Hub]:
    yield shared_hub
    shared_hub.go.set()
    shared_hub.faults = Faults()
    shared_hub.asked.clear()
    shared_hub.held.clear()


def environment(hub: Hub, folder: Path, patch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "HF_HUB_CACHE": str(folder / "hub"),
        "LLAMA_CACHE": str(folder / "llama"),
    }.items():
        patch.setenv(name, value)


@pytest.fixture
def own(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a server of one's own."""
    environment(hub, tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def shared(place: Path, shared_hub: Hub) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        environment(shared_hub, place, patch)
        with Server(place, toml(place)) as running:
            yield running


@pytest.fixture
def server(shared: Server, hub: Hub, place: Path) -> Iterator[Server]:
    """Without models of the cache, before and after."""
    yield shared
    hub.go.set()
    for name, entry in listed(shared).items():
        if entry["can_remove"]:
            shared.http.delete("/models", params={"model": name})
    shutil.rmtree(place / "hub", ignore_errors=True)


def toml(place: Path, more: str = "", sources: str = "") -> str:
    return f'[sources]\n{sources}\n[state]\ndir = "{place}/state"\n[defaults]\nn_ctx = 256\n{ECHO}{more}'


class Events:
    """What /models/sse says, read in a thread."""

    def __init__(self, server: Server) -> None:
        self.seen: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(server.url,), daemon=True)
        self._thread.start()
        assert self._open.wait(PATIENCE)

    def _read(self, url: str) -> None:
        try:
            with httpx.stream("GET", f"{url}/models/sse?snapshot=0", timeout=PATIENCE, verify=False) as response:
                self._open.set()
                number = ""
                for line in response.iter_lines():
                    if line.startswith("id: "):
                        number = line[4:]
                    if line.startswith("data: "):
                        self.seen.append({**json.loads(line[6:]), "id": number})
        except httpx.HTTPError:
            pass

    def of(self, model: str) -> list[str]:
        return [each["event"] for each in self.seen if each["model"] in (model, "*")]

    def last(self, event: str) -> dict[str, Any]:
        return until(lambda: [each for each in self.seen if each["event"] == event], what=event)[-1]


def listed(server: Server) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in server.http.get("/models").json()["data"]}


def pull(server: Server, name: str = "u/r") -> dict[str, Any]:
    answer = server.http.post("/models", json={"model": name})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def pull_half(server: Server, hub: Hub, data: bytes) -> dict[str, Any]:
    """Returns when half of the file is there; the rest comes when the hub may `go`."""
    hub.hold(FILE, len(data) // 2)
    answer = pull(server)

    def half_way() -> bool:
        progress = listed(server)[NAME]["status"].get("progress", {})
        return list(progress.values()) == [{"done": len(data) // 2, "total": len(data)}]

    until(half_way, what="half of it")
    return answer


def there(server: Server, name: str = NAME) -> None:
    until(lambda: listed(server).get(name, {}).get("status", {}).get("state") == "unloaded", what=f"{name} is there")


def files(place: Path) -> list[str]:
    return [os.path.join(at, name) for at, _, names in os.walk(place / "hub") for name in names]


def test_a_model_is_fetched_followed_served_and_deleted(server: Server, hub: Hub, place: Path, data: bytes) -> None:
    events = Events(server)
    assert pull_half(server, hub, data) == {"success": True, "model": NAME}
    assert listed(server)[NAME]["status"]["value"] == "downloading"
    again = server.http.post("/models", json={"model": NAME})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "model_exists")
    hub.go.set()
    there(server)
    until(lambda: "download_finished" in events.of(NAME))
    until(lambda: events.of(NAME)[-1] == "models_reload")
    told = events.of(NAME)
    assert told.index("model_status") < told.index("download_progress") < told.index("download_finished")
    assert events.last("download_progress")["data"]["progress"][next(iter_urls(hub))] == {
        "done": len(data),
        "total": len(data),
    }
    numbers = [int(each["id"].partition(".")[2]) for each in events.seen]
    assert numbers == sorted(set(numbers))

    entry = listed(server)[NAME]
    assert (entry["source"], entry["can_remove"], entry["meta"]["arch"]) == ("cache", True, "llama")
    assert server.chat(NAME, "hello", max_tokens=3).status_code == 200
    assert pull_error(server, NAME) == (409, "model_exists")

    stream = Stream(server, NAME, "go on", max_tokens=60, ignore_eos=True).begun()
    gone = server.http.delete("/models", params={"model": NAME})
    assert gone.json() == {"success": True}, gone.text
    assert stream.join().done
    assert NAME not in listed(server)
    assert files(place) == []
    until(lambda: "model_remove" in events.of(NAME))
    assert server.http.delete("/models", params={"model": NAME}).status_code == 404
    pull(server)
    there(server)
    assert server.chat(NAME, "hello", max_tokens=3).status_code == 200


def iter_urls(hub: Hub) -> Iterator[str]:
    from tests.hub import revision

    yield f"{hub.endpoint}/u/r/resolve/{revision('u/r')}/{FILE}"


def pull_error(server: Server, name: Any) -> tuple[int, str]:
    answer = server.http.post("/models", json={"model": name})
    return answer.status_code, answer.json()["error"]["code"]


def test_what_cannot_be_fetched_is_refused_with_its_reason(server: Server, hub: Hub) -> None:
    assert pull_error(server, None) == (400, "missing_model")
    for bad in ("nonsense", "a/b/c", "../x", "u/..", "u/r:", "u/r name", "u--r/x", 5):
        assert pull_error(server, bad) == (400, "invalid_value"), bad
    assert pull_error(server, "u/none") == (404, "repo_not_found")
    assert pull_error(server, "u/r:Q2_K") == (404, "repo_not_found")
    assert pull_error(server, "echo") == (409, "model_exists")
    hub.faults.statuses += [500] * 3
    assert pull_error(server, "u/r") == (503, "download_failed")
    gone = server.http.delete("/models", params={"model": "echo"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (403, "not_removable")
    assert server.http.delete("/models").json()["error"]["code"] == "missing_model"
    assert list(listed(server)) == ["echo"]


def test_a_cancelled_download_goes_on_when_asked_again(server: Server, hub: Hub, data: bytes) -> None:
    events = Events(server)
    pull_half(server, hub, data)
    assert server.http.post("/models/unload", json={"model": NAME}).json()["success"]
    until(lambda: NAME not in listed(server))
    assert "cancelled" in events.last("download_failed")["data"]["message"]
    assert server.pid("dl:r") is None
    hub.go.set()
    pull(server)
    there(server)
    assert hub.sent(FILE)[1] == f"bytes={len(data) // 2}-"


def test_deleted_while_it_is_fetched_nothing_is_left(server: Server, hub: Hub, place: Path, data: bytes) -> None:
    pull_half(server, hub, data)
    assert server.http.delete("/models", params={"model": NAME}).status_code == 200
    assert NAME not in listed(server)
    assert files(place) == []


def test_a_killed_download_is_told_and_the_others_live(server: Server, hub: Hub, data: bytes) -> None:
    events = Events(server)
    pull_half(server, hub, data)
    (child,) = (pid for pid, title in server.titles().items() if title.startswith("lsv:dl:"))
    os.kill(child, signal.SIGKILL)
    assert "asked again, it goes on" in events.last("download_failed")["data"]["message"]
    assert server.chat("echo", "still here").status_code == 200


def test_a_wrong_file_is_no_model(server: Server, hub: Hub, place: Path) -> None:
    events = Events(server)
    hub.faults.digests[FILE] = "0" * 64
    pull(server)
    assert "checksum" in events.last("download_failed")["data"]["message"]
    until(lambda: list(listed(server)) == ["echo"])


def test_a_killed_server_goes_on_after_its_restart(own: Path, hub: Hub, data: bytes) -> None:
    with Server(own, toml(own)) as first:
        pull_half(first, hub, data)
        family = first.family()
        first.process.kill()
        first.process.wait(PATIENCE)
        assert still_there(family) == []
    hub.go.set()
    with Server(own, toml(own)) as cut_short:
        assert NAME not in listed(cut_short)
        hub.hold(FILE, len(data) * 3 // 4)
        pull(cut_short)
        assert hub.reached.wait(PATIENCE)  # and it is told to stop
    hub.go.set()
    with Server(own, toml(own)) as second:
        assert NAME not in listed(second)
        pull(second)
        there(second)
        assert hub.sent(FILE)[1] == f"bytes={len(data) // 2}-"
    with Server(own, toml(own)) as third:  # what was fetched here is listed, without hf_cache
        there(third)
        assert third.chat(NAME, "hello", max_tokens=3).status_code == 200


def test_the_token_is_the_download_s_alone(server: Server, hub: Hub, data: bytes) -> None:
    pull_half(server, hub, data)
    seen = 0
    for pid, title in server.titles().items():
        assert TOKEN not in title
        if pid != server.process.pid:
            with suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
                assert TOKEN.encode() not in Path(f"/proc/{pid}/environ").read_bytes(), title
                seen += 1
    assert seen >= 3  # proxy, standby, scan, download
    hub.go.set()
    there(server)
    text = server.log.read_text()
    assert TOKEN not in text
    assert SIGNATURE not in text


def test_models_of_the_configuration_are_fetched_by_their_name_or_when_wanted(own: Path, hub: Hub) -> None:
    more = '[models.mine]\nhf = "u/r:Q4_K_M"\n[models.other]\nhf = "u/r:Q8_0"\n'
    with Server(own, toml(own, more)) as server:
        until(lambda: listed(server)["mine"]["status"].get("cause") == "file_missing", what="the scan")
        answer = server.chat("mine", "hello")
        assert answer.status_code == 503
        assert 'POST /models {"model": "u/r:Q4_K_M"}' in answer.json()["error"]["message"]
        assert pull(server, "mine") == {"success": True, "model": "mine"}
        until(lambda: server.state("mine") == "unloaded")
        assert listed(server)["mine"]["can_remove"] is False
        assert server.chat("mine", "hello", max_tokens=3).status_code == 200
        assert pull(server, "u/r:q8_0")["model"] == "other"
        until(lambda: server.state("other") == "unloaded")
        assert NAME not in listed(server)


def test_with_autodownload_a_request_is_enough(own: Path, hub: Hub) -> None:
    more = '[models.mine]\nhf = "u/r"\n[models.none]\nhf = "u/none"\n'
    with Server(own, toml(own, more, "autodownload = true")) as server:
        assert server.chat("mine", "hello", max_tokens=3).status_code == 200
        answer = server.chat("none", "hello")
        assert answer.status_code == 503
        assert "u/none is not on the hub" in answer.json()["error"]["message"]


def test_keys_without_admin_may_do_neither(own: Path, hub: Hub) -> None:
    import hashlib

    digest = hashlib.sha256(b"guest").hexdigest()
    with Server(own, toml(own, f'[[keys]]\nname = "guest"\nsha256 = "{digest}"\n')) as server:
        server.http.headers["authorization"] = "Bearer guest"
        for answer in (
            server.http.post("/models", json={"model": "u/r"}),
            server.http.delete("/models", params={"model": "echo"}),
            server.http.post("/api/pull", json={"model": "u/r"}),
            server.http.request("DELETE", "/api/delete", json={"model": "echo"}),
        ):
            assert answer.status_code == 403, answer.text


# -- Ollama's -----------------------------------------------------------------------------------------------------


def test_ollama_s_client_pulls_lists_and_deletes(server: Server, hub: Hub, data: bytes) -> None:
    import ollama

    with ollama.Client(host=server.url) as client:
        _pull_list_delete(client, server, data)


def _pull_list_delete(client: Any, server: Server, data: bytes) -> None:
    import ollama

    lines = list(client.pull("hf.co/u/r:Q4_K_M", stream=True))
    assert lines[0].status == "pulling manifest"
    assert lines[-1].status == "success"
    bars = [line for line in lines if line.digest]
    assert (bars[-1].completed, bars[-1].total) == (len(data), len(data))
    assert NAME in [model.model for model in client.list().models]
    assert client.pull(NAME).status == "success"  # there already
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        client.pull("llama3")
    with pytest.raises(ollama.ResponseError, match="not on the hub"):
        client.pull("hf.co/u/none")
    assert client.delete("hf.co/u/r:Q4_K_M").status == "success"
    assert NAME not in listed(server)
    with pytest.raises(ollama.ResponseError):
        client.delete(NAME)


def test_a_failed_pull_is_the_last_line(server: Server, hub: Hub) -> None:
    hub.faults.digests[FILE] = "0" * 64
    lines = [json.loads(line) for line in server.http.post("/api/pull", json={"model": "u/r"}).text.splitlines()]
    assert "checksum" in lines[-1]["error"]
    answer = server.http.post("/api/pull", json={"model": "u/r", "stream": False})
    assert answer.status_code == 503
    assert "checksum" in answer.json()["error"]


# -- the command line's -------------------------------------------------------------------------------------------


def ctl(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", "ctl", "--url", server.url, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT)


def test_the_command_line_pulls_and_removes(server: Server, hub: Hub) -> None:
    done = ctl(server, "pull", "u/r")
    assert (done.returncode, done.stdout.strip()) == (0, f"{NAME}: downloaded"), done
    assert ctl(server, "pull", NAME).stdout.strip() == f"{NAME}: there already"
    assert ctl(server, "rm", NAME).returncode == 0
    assert NAME not in listed(server)
    hub.faults.digests[FILE] = "0" * 64
    failed = ctl(server, "pull", "u/r")
    assert failed.returncode == 1
    assert "checksum" in failed.stderr
