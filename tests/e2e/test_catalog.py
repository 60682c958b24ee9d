"""Models found in a folder: listed with their facts, served, followed as files come and go."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.e2e.server import Server, text_of, until

ECHO = '[models.echo]\nworker = "tests.echo_worker:main"\naliases = ["shout"]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models, of which one is broken: a file, a folder with shards' names left out, a cut file."""
    shelf = tmp_path_factory.mktemp("shelf")
    shutil.copy(models.tiny(), shelf / "whole one.gguf")
    (shelf / "boxed").mkdir()
    shutil.copy(models.tiny(seed=2), shelf / "boxed" / "weights.gguf")
    shutil.copy(models.broken()["cut"], shelf / "cut.gguf")
    return shelf


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("server")
    sources = f'[sources]\nmodels_dir = "{folder}"\n[state]\ndir = "{place}/state"\n'
    defaults = '[defaults]\nn_ctx = 256\nparallel = 2\n[admission]\nfallback_model = "echo"\n'
    with Server(place, sources + defaults + ECHO) as running:
        yield running


def listed(server: Server, **params: Any) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in server.http.get("/models", params=params).json()["data"]}


def test_the_list_has_every_file_with_its_facts_or_what_is_wrong(server: Server) -> None:
    found = until(lambda: len(known := listed(server)) == 4 and known, what="four models")
    assert set(found) == {"echo", "whole-one", "boxed", "cut"}
    whole, cut = found["whole-one"], found["cut"]
    assert whole["source"] == "models_dir"
    assert whole["status"]["value"] == "unloaded"
    assert (whole["meta"]["arch"], whole["meta"]["quantization"]) == ("llama", "F32")
    assert (whole["meta"]["n_ctx_train"], whole["meta"]["n_ctx"], whole["context_length"]) == (512, 256, 256)
    assert whole["created"] > 0
    assert whole["path"].endswith("/whole one.gguf")
    assert whole["memory"]["estimated"] > whole["meta"]["size"]
    assert whole["memory"]["ram"] is None
    assert cut["meta"] is None
    assert cut["status"]["cause"] == "file_corrupt"
    assert "bytes of its tensors are missing" in cut["status"]["message"]


def test_what_was_found_is_served_and_its_memory_measured(server: Server) -> None:
    until(lambda: "boxed" in listed(server), what="boxed")
    assert server.chat("boxed", "hello", max_tokens=4).status_code == 200
    memory = listed(server)["boxed"]["memory"]
    assert memory["vram"] == 0
    assert memory["kv"] == 2 * 256 * 2 * 64 * 2 * 2  # sequences, tokens, K and V, width, layers, bytes
    assert memory["ram"] == pytest.approx(memory["estimated"], rel=0.5)


def test_the_broken_file_fails_by_itself(server: Server) -> None:
    until(lambda: "cut" in listed(server), what="cut")
    answer = server.chat("cut", "hello")
    assert answer.status_code == 503
    assert answer.json()["error"]["cause"] == "file_corrupt"
    assert server.chat("echo", "still here").status_code == 200


def test_a_file_that_comes_is_listed_and_one_that_goes_is_not(server: Server, folder: Path) -> None:
    until(lambda: "whole-one" in listed(server), what="the first scan")
    shutil.copy(models.tiny(seed=3), folder / "new.part")
    os.rename(folder / "new.part", folder / "new.gguf")
    until(lambda: "new" in listed(server), what="new")
    assert server.chat("new", "hello", max_tokens=4).status_code == 200
    (folder / "new.gguf").unlink()
    until(lambda: "new" not in listed(server), what="new to go")
    until(lambda: server.pid("w:new") is None, what="its worker to end")


def test_a_repaired_file_is_tried_again(server: Server, folder: Path) -> None:
    shutil.copy(models.broken()["random"], folder / "mended.gguf")
    until(lambda: "mended" in listed(server), what="mended")
    assert server.chat("mended", "hello").status_code == 503
    assert server.state("mended") == "failed"
    shutil.copy(models.tiny(), folder / "part")
    os.rename(folder / "part", folder / "mended.gguf")
    until(lambda: server.state("mended") == "unloaded", what="another chance")
    assert server.chat("mended", "hello", max_tokens=4).status_code == 200
    (folder / "mended.gguf").unlink()


def test_a_reload_waits_for_the_scan(server: Server, folder: Path) -> None:
    (folder / "later").mkdir()
    shutil.copy(models.tiny(seed=4), folder / "later" / "x.gguf")
    assert "later" in listed(server, reload="1")
    shutil.rmtree(folder / "later")
    assert "later" not in listed(server, reload="1")


def test_the_child_that_watches_comes_back(server: Server, folder: Path) -> None:
    pid = until(lambda: server.pid("scan"), what="a scan child")
    os.kill(pid, signal.SIGKILL)
    until(lambda: server.pid("scan") not in (None, pid), what="another one")
    shutil.copy(models.tiny(), folder / "after.gguf")
    until(lambda: "after" in listed(server), what="after")
    (folder / "after.gguf").unlink()


def test_a_name_that_no_model_has_means_the_fallback_where_models_are_used(server: Server) -> None:
    answer = server.chat("gpt-3.5-turbo", "hello")
    assert (text_of(answer)[:1] != "", answer.json()["model"]) == (True, "echo")
    assert server.http.get("/models/gpt-3.5-turbo").status_code == 404
    assert server.http.post("/models/load", json={"model": "gpt-3.5-turbo"}).status_code == 404


def test_another_configuration_brings_and_takes_models(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO) as server:
        server.write(ECHO.replace("echo]", "other]").replace("shout", "whisper"))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: set(listed(server)) == {"other"}, what="the other model alone")
        assert server.chat("whisper", "hello").status_code == 200
        server.write(ECHO.replace("echo]", "other]") + "n_ctx = 77\n")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.state("other") == "unloaded", what="a drain")
        assert server.status("other")["stop_reason"] == "reload"
        assert server.chat("shout", "hello").status_code == 200


def test_a_second_start_reads_no_header_again_and_knows_the_memory(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    shutil.copy(models.tiny(), tmp_path / "shelf" / "a.gguf")
    toml = f'[sources]\nmodels_dir = "shelf"\n[state]\ndir = "{tmp_path}/state"\n[defaults]\nn_ctx = 64\n'
    with Server(tmp_path, toml) as server:
        until(lambda: "a" in listed(server), what="a")
        server.chat("a", "hello", max_tokens=2)
        until(lambda: (tmp_path / "state" / "memory.msgpack").exists(), what="the memory to be kept")
        measured = listed(server)["a"]["memory"]
    with Server(tmp_path, toml) as server:
        until(lambda: "a" in listed(server), what="a")
        found = listed(server)["a"]
        assert found["status"]["state"] == "unloaded"
        assert found["memory"] == measured


def test_a_repository_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with Server(tmp_path, ECHO + '[models.far]\nhf = "nobody/nothing-GGUF:Q4_K_M"\n') as server:
        status = until(lambda: "cause" in (found := server.status("far")) and found, what="a cause")
        assert status["cause"] == "file_missing"
        assert "nobody/nothing-GGUF is in no local cache" in status["message"]
        answer = server.chat("far", "hello").json()["error"]
        assert (answer["status"], answer["cause"]) == (503, "file_missing")


def test_memory_decides_who_goes_and_what_can_never_fit_is_refused(tmp_path: Path) -> None:
    shared = '[placement]\nmemory = { ram = "90MiB" }\n[defaults]\nn_ctx = 64\nparallel = 1\n'
    pair = "".join(f'[models.{name}]\npath = "{models.tiny()}"\n' for name in ("a", "b"))
    huge = f'[models.huge]\npath = "{models.tiny()}"\nn_ctx = 512\nparallel = 200\n'
    with Server(tmp_path, shared + pair + huge) as server:
        until(lambda: all(entry["meta"] for entry in listed(server).values()), what="the headers")
        for name in ("a", "b"):
            assert server.chat(name, "hello", max_tokens=2).status_code == 200
        assert (server.state("a"), server.status("a")["stop_reason"]) == ("unloaded", "evicted")
        error = server.chat("huge", "hello").json()["error"]
        assert (error["status"], error["code"]) == (503, "insufficient_memory")
        assert "of which there are 0.09 GiB" in error["message"]
        assert server.state("b") == "ready"
