"""Slots of a real server are saved, erased and restored, also into another worker and another server."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import model_classes
from tests.e2e.server import PATIENCE, Server, until

STORY = "A long story about a fox, a dog and a hen that lived beside the old mill near the river. " * 6
MODELS = ("gqa", "hybrid")
OTHER = "Quite another story, of which nobody knows more than its beginning. " * 4


def server_at(place: Path, folder: Path, *models: str) -> Server:
    tables = "".join(
        f'[models.{name}]\npath = "{model_classes.path(name)}"\nn_ctx = 1024\nflash_attention = "off"\n'
        for name in models
    )
    server = Server(place, "")
    server.head += f'slot_save_path = "{folder}"\n'
    server.write(f"[parking]\nmemory = 0\n{tables}")
    return server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slots")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    with server_at(tmp_path_factory.mktemp("server"), folder, *MODELS) as found:
        yield found


def act(server: Server, action: str, slot: int, model: str, name: str = "") -> httpx.Response:
    body = {"model": model} | ({"filename": name} if name else {})
    return server.http.post(f"/slots/{slot}?action={action}", json=body)


def did(server: Server, action: str, slot: int, model: str, name: str = "") -> dict[str, Any]:
    response = act(server, action, slot, model, name)
    assert response.status_code == 200, response.text
    return dict(response.json())


def say(server: Server, model: str, prompt: str = STORY, slot: int = -1, tokens: int = 40) -> tuple[str, int]:
    """What it says, and how much of the prompt was in the cache."""
    body = {
        "model": model,
        "prompt": prompt,
        "n_predict": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "id_slot": slot,
    }
    reply = server.http.post("/completion", json=body).json()
    assert slot in (-1, reply["id_slot"])
    return reply["content"], reply["timings"]["cache_n"]


@pytest.mark.parametrize("model", MODELS)
def test_a_conversation_outlives_its_slot_its_worker_and_its_server(
    server: Server, folder: Path, tmp_path: Path, model: str
) -> None:
    name = f"{model}.bin"
    text, cached = say(server, model, slot=1)
    assert cached == 0
    saved = did(server, "save", 1, model, name)
    assert saved["n_saved"] >= len(STORY) // 2
    assert saved["n_written"] == (folder / name).stat().st_size
    assert did(server, "erase", 1, model) == {"id_slot": 1, "n_erased": saved["n_saved"]}
    assert say(server, model, slot=1) == (text, 0)
    did(server, "erase", 1, model)
    restored = did(server, "restore", 2, model, name)
    assert (restored["n_restored"], restored["n_read"]) == (saved["n_saved"], saved["n_written"])
    again, cached = say(server, model, slot=2)
    assert (again, cached > 450) == (text, True)
    server.http.post("/models/unload", json={"model": model})
    until(lambda: server.state(model) == "unloaded", what="unloaded")
    assert act(server, "save", 2, model, name).json()["error"]["code"] == "model_not_loaded"
    assert did(server, "restore", 0, model, name)["n_restored"] == saved["n_saved"]
    again, cached = say(server, model)
    assert (again, cached > 450) == (text, True)
    if model == MODELS[0]:
        with server_at(tmp_path, folder, model) as other:
            did(other, "restore", 0, model, name)
            again, cached = say(other, model, slot=0)
            assert (again, cached > 450) == (text, True)


def test_what_runs_beside_says_what_it_says_alone(server: Server) -> None:
    say(server, "gqa", slot=0)
    alone, _ = say(server, "gqa", OTHER, slot=1, tokens=300)
    found: list[str] = []
    beside = threading.Thread(target=lambda: found.append(say(server, "gqa", OTHER, slot=1, tokens=300)[0]))
    beside.start()
    for turn in range(5):
        did(server, "save", 0, "gqa", "beside.bin")
        did(server, "restore", 2 + turn % 2, "gqa", "beside.bin")
    beside.join(PATIENCE)
    assert found == [alone]


def test_a_busy_slot_is_409(server: Server) -> None:
    body = {"model": "gqa", "prompt": OTHER, "n_predict": -1, "ignore_eos": True, "id_slot": 3, "stream": True}
    with httpx.stream("POST", f"{server.url}/completion", json=body, timeout=PATIENCE, verify=False) as stream:
        assert next(stream.iter_lines())
        for action in ("save", "restore", "erase"):
            if (response := act(server, action, 3, "gqa", "gqa.bin")).status_code != 409:
                rows = server.http.get("/slots?model=gqa").json()
                assert not rows[3]["is_processing"], response.text  # it had come to its end


def test_what_is_no_slot_of_this_model_is_refused_with_the_reason(server: Server, folder: Path) -> None:
    say(server, "gqa", slot=0)
    did(server, "save", 0, "gqa", "mine.bin")
    say(server, "hybrid", slot=0)
    for action in ("restore", "save"):
        error = act(server, action, 0, "hybrid", "mine.bin").json()["error"]
        assert (error["status"], error["param"]) == (400, "filename")
        assert "of the model gqa" in error["message"]
    os.truncate(folder / "mine.bin", 1000)
    error = act(server, "restore", 1, "gqa", "mine.bin").json()["error"]
    assert (error["status"], "damaged" in error["message"]) == (400, True)
    assert act(server, "restore", 1, "gqa", "none.bin").json()["error"]["code"] == "not_found"
    assert act(server, "restore", 1, "gqa", "../mine.bin").status_code == 400
    assert act(server, "save", 0, "no-such-model", "a.bin").status_code == 404


_SMALL = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'


def test_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("no right to mount; tests/worker/test_slots.py has the same with an injected error")
    disk = tmp_path / "disk"
    disk.mkdir()
    server = server_at(tmp_path, disk, "gqa")
    server.prefix = [unshare, "-m", "sh", "-c", _SMALL, str(disk)]
    with server:
        text, _ = say(server, "gqa", slot=0)
        response = act(server, "save", 0, "gqa", "a.bin")
        assert (response.status_code, response.json()["error"]["code"]) == (507, "storage_failed")
        assert "No space left" in response.json()["error"]["message"]
        assert os.listdir(f"/proc/{server.process.pid}/root{disk}") == []
        assert say(server, "gqa", slot=0)[0] == text
