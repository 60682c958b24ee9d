"""LoRA adapters from the configuration to the answer, on the real server with a tiny model."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import adapters, model_classes, models
from tests.e2e.server import Server, until

BASE = model_classes.path("gqa")
FIRST, SECOND = adapters.lora(BASE, 1), adapters.lora(BASE, 2)
PROMPT = "The old mill by the river had not turned for years, and"


def table(name: str, *lora: str) -> str:
    return f'[models.{name}]\npath = "{BASE}"\nn_ctx = 512\nflash_attention = "off"\nlora = [{", ".join(lora)}]\n'


TOML = (
    table("worn", f'"{FIRST}"', f'{{path = "{SECOND}", scale = 0}}')
    + table("bare")
    + table("misfit", f'"{adapters.lora(models.tiny())}"')
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("lora"), TOML) as running:
        until(lambda: running.status("misfit").get("cause"), what="the files are read")
        yield running


def ask(server: Server, model: str = "worn", path: str = "/completion", **more: Any) -> dict[str, Any]:
    body = {"model": model, "prompt": PROMPT, "temperature": 0, "n_predict": 16, "ignore_eos": True, **more}
    response = server.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def scales(server: Server, *lora: float) -> None:
    said = [{"id": id, "scale": scale} for id, scale in enumerate(lora)]
    response = server.http.post("/lora-adapters?model=worn", json=said)
    assert (response.status_code, response.json()) == (200, {"success": True})


def configured(server: Server) -> list[float]:
    return [each["scale"] for each in server.http.get("/lora-adapters", params={"model": "worn"}).json()]


def test_it_is_listed_before_it_is_loaded(server: Server) -> None:
    first, second = server.http.get("/lora-adapters", params={"model": "worn"}).json()
    assert first == {"id": 0, "path": FIRST, "scale": 1.0, "task_name": adapters.TASK, "prompt_prefix": adapters.PREFIX}
    assert (second["id"], second["path"], second["scale"]) == (1, SECOND, 0.0)
    assert server.http.get("/lora-adapters", params={"model": "bare"}).json() == []


def test_a_request_says_how_much_each_counts(server: Server) -> None:
    bare, worn = ask(server, "bare"), ask(server)
    assert bare["content"] != worn["content"]
    assert worn["generation_settings"]["lora"] == [{"id": 0, "scale": 1.0}]
    assert ask(server, lora=[])["content"] == bare["content"]
    assert ask(server, lora=[{"id": 0, "scale": 0}, {"id": 1, "scale": 0}])["content"] == bare["content"]
    other = ask(server, lora=[{"id": 1, "scale": 1}])
    assert other["content"] not in (bare["content"], worn["content"])
    text = ask(server, path="/v1/completions", lora=[{"id": 1, "scale": 1}])["choices"][0]["text"]
    assert text == other["content"]
    again = ask(server, **{key: value for key, value in other["generation_settings"].items() if key != "stream"})
    assert again["content"] == other["content"]
    assert ask(server)["content"] == worn["content"]


def test_an_admin_changes_the_scales_for_all_and_a_crash_does_not_change_them_back(server: Server) -> None:
    bare, worn, other = ask(server, "bare"), ask(server), ask(server, lora=[{"id": 1, "scale": 1}])
    scales(server, 0, 1)
    assert ask(server)["content"] == other["content"]
    assert configured(server) == [0.0, 1.0]
    server.kill("w:worn", signal.SIGKILL)
    until(lambda: server.pid("w:worn") is None or server.state("worn") != "ready")
    assert ask(server)["content"] == other["content"]
    scales(server)
    assert (ask(server)["content"], configured(server)) == (bare["content"], [0.0, 0.0])
    props = server.http.get("/props", params={"model": "worn"}).json()["default_generation_settings"]["params"]
    assert props["lora"] == [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 0.0}]
    scales(server, 1)
    assert ask(server)["content"] == worn["content"]


def test_what_is_wrong_is_refused_with_its_place(server: Server) -> None:
    said = {"model": "worn", "prompt": "x", "lora": [{"id": 0, "scale": 1}, {"id": 2, "scale": 1}]}
    refused = server.http.post("/completion", json=said)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "lora[1].id")
    refused = server.http.post("/lora-adapters?model=worn", json=[{"id": 2, "scale": 1}])
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "[0].id")


def test_an_adapter_that_does_not_fit_fails_the_model_in_words(server: Server) -> None:
    refused = server.http.post("/completion", json={"model": "misfit", "prompt": "x"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["cause"]) == (503, "model_failed", "config_error")
    assert "is it for another model?" in error["message"]
    assert ask(server, "bare")


def test_another_adapter_in_the_configuration_is_another_load(server: Server, tmp_path: Path) -> None:
    other = ask(server, lora=[{"id": 1, "scale": 1}])
    scales(server, 0.5, 0.5)
    server.write(TOML.replace(f'"{FIRST}"', f'"{SECOND}"', 1))
    outcome = server.http.post("/admin/reload").json()
    assert (outcome["changed"], outcome["restarting"]) == (["worn"], ["worn"])
    assert ask(server)["content"] == other["content"]
    assert configured(server) == [1.0, 0.0]
    server.write(TOML)
    assert server.http.post("/admin/reload").status_code == 200
