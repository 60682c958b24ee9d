"""What GET /models says of the catalog, and how the proxy follows it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.dialects.model_object import model_object
from supervisor.card import Capabilities, Card
from supervisor.config import Admission, Key, Model
from supervisor.control import Entry, Facts, Footprint, Listed, ModelStatus, Reload, Reloaded, State, Unlisted, Want
from tests.proxy.harness import Harness, loaded, settings, until

CARD = Card(
    architecture="llama",
    name="A Model",
    quantization="Q4_K_M",
    n_params=7,
    size=5000,
    file_size=6000,
    modified=1234,
    n_ctx_train=1000,
    n_embd=64,
    n_vocab=99,
    vocab_type=2,
    capabilities=Capabilities(vision=True, function_calling=True, infill=True),
)
FULL = Entry(
    Model(name="a", path="/m/a.gguf", mmproj="/m/mmproj.gguf", n_ctx=4096, tags=("x",), description="text"),
    "models_dir",
    CARD,
    estimated={"ram": 5000, "gpu:0": 4000},
)


def shown(entry: Entry = FULL, **more: Any) -> dict[str, Any]:
    status = ModelStatus(**{"name": "a", "state": State.UNLOADED, "since": 1.0} | more)
    return model_object(entry, status, 0, 0, admin=False)


def test_an_unloaded_model_has_the_facts_of_its_file() -> None:
    found = shown()
    assert found["meta"] == {
        "n_ctx_train": 1000, "n_vocab": 99, "n_embd": 64, "n_params": 7, "size": 5000, "vocab_type": 2, "n_ctx": 1000,
        "arch": "llama", "ftype": "Q4_K_M", "quantization": "Q4_K_M", "files": 1, "file_size": 6000,
    }  # fmt: skip
    assert found["architecture"] == {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    able = {name for name, value in found["capabilities"].items() if value}
    assert able == {"vision", "function_calling", "infill"}
    plain = {"created": 1234, "name": "A Model", "description": "text", "tags": ["x"], "path": "a.gguf"}
    assert {key: found[key] for key in plain} == plain
    assert (found["source"], found["can_remove"], found["context_length"]) == ("models_dir", False, 1000)
    assert found["status"]["args"] == ["--mmproj", "mmproj.gguf"]
    assert found["memory"] == {"estimated": 9000, "ram": None, "vram": None, "kv": None}


def test_a_loaded_model_has_its_own() -> None:
    measured = Footprint({"ram": 5, "gpu:0": 6, "gpu:1": 7}, kv=2)
    caps = {"supports_tools": False}
    facts = Facts(n_ctx=512, n_params=8, description="llama 7B", template_caps=caps, memory=measured)
    found = shown(state=State.READY, facts=facts)
    assert (found["meta"]["n_ctx"], found["meta"]["n_params"], found["meta"]["ftype"]) == (512, 8, "llama 7B")
    assert found["capabilities"]["function_calling"] is False
    assert found["memory"] == {"estimated": 9000, "ram": 5, "vram": 13, "kv": 2}


def test_what_the_last_load_took_is_shown_before_the_next() -> None:
    found = shown(Entry(FULL.model, card=CARD, memory=Footprint({"ram": 5}, kv=1)))
    assert (found["memory"]["ram"], found["memory"]["vram"], found["memory"]["kv"]) == (5, 0, 1)


def test_a_file_that_cannot_be_read_says_why_unless_there_is_newer_news() -> None:
    broken = Entry(Model(name="a"), card=Card(cause="file_corrupt", problem="cut off"))
    found = shown(broken)
    assert (found["meta"], found["status"]["cause"], found["status"]["message"]) == (None, "file_corrupt", "cut off")
    assert "failed" not in found["status"]
    assert shown(broken, state=State.FAILED, cause="crashed")["status"]["cause"] == "crashed"


def test_before_any_scan_nothing_is_known() -> None:
    found = shown(Entry(Model(name="a", n_ctx=77)))
    assert (found["meta"], found["created"], found["context_length"]) == (None, 0, 77)
    assert found["memory"]["estimated"] is None


async def listed(server: Harness, query: str = "", **headers: str) -> list[str]:
    answer = (await server.client.get(f"/v1/models{query}", headers=headers)).json()
    return [entry["id"] for entry in answer["data"]]


async def test_models_come_change_and_go() -> None:
    async with Harness(settings("m")) as server:
        new = Entry(Model(name="new", aliases=("n",)))
        server.tell(Listed((new,), (loaded("new", state=State.UNLOADED, facts=None),)))
        await until(lambda: "new" in server.proxy.services.result().models.gates)
        assert await listed(server) == ["m", "new"]
        assert (await server.client.get("/v1/models/n")).json()["id"] == "new"
        server.tell(Listed((Entry(Model(name="new", title="N")),)))
        await until(lambda: server.proxy.services.result().models.entries["new"].model.title)
        assert (await server.client.get("/v1/models/n")).status_code == 404
        waiting = server.post("/v1/completions", model="new", prompt="x")
        await server.heard(Want)
        server.tell(Unlisted("new"))
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert await listed(server) == ["m"]


async def test_a_hidden_model_is_left_out_of_lists_only() -> None:
    config = settings("m")
    config.models["m"] = Model(name="m", hidden=True, worker="tests.echo_worker:main")
    async with Harness(config) as server:
        assert await listed(server) == []
        assert (await server.client.get("/v1/models/m")).status_code == 200


KEYS = tuple(
    Key(name=name, sha256=digest, models=models, admin=name == "root")
    for name, digest, models in [
        ("root", "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2", ("*",)),
        ("user", "04f8996da763b7a969b1028ee3007569eaf3a635486ddab211d512c85b9df8fb", ("a",)),
    ]
)


async def test_only_an_admin_has_the_folders_looked_at_again_and_waits_for_it() -> None:
    async with Harness(settings("a", keys=KEYS)) as server:
        assert await listed(server, "?reload=1", authorization="Bearer user") == ["a"]
        assert not [message for message in server.said if isinstance(message, Reload)]
        headers = {"authorization": "Bearer root"}
        task = asyncio.ensure_future(server.client.get("/v1/models?reload=1", headers=headers))
        reload = await server.heard(Reload)
        server.tell(Listed((Entry(Model(name="b")),), (loaded("b", state=State.UNLOADED, facts=None),)))
        server.tell(Reloaded(reload.ticket))
        assert [entry["id"] for entry in (await task).json()["data"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [(Reloaded(complete=False), "takes longer"), (Reloaded(error="x: no"), "x: no"), (None, "root")],
)
async def test_a_reload_that_fails_or_takes_too_long_is_said_and_the_list_given(
    monkeypatch: pytest.MonkeyPatch, outcome: Reloaded | None, said: str
) -> None:
    monkeypatch.setattr("proxy.models.RELOAD_TIMEOUT", 0.05 if outcome is None else 5.0)
    async with Harness(settings("a")) as server:
        task = asyncio.ensure_future(server.client.get("/v1/models?reload=1"))
        asked = await server.heard(Reload)
        if outcome is not None:
            server.tell(replace(outcome, ticket=asked.ticket))
        answer = (await task).json()
        assert said in answer["reload_error"]
        assert [entry["id"] for entry in answer["data"]] == ["a"]


async def test_the_fallback_serves_names_that_no_model_has_as_far_as_the_key_sees_it() -> None:
    admission = Admission(fallback_model="b-alias")
    async with Harness(settings("a", "b", keys=KEYS, admission=admission)) as server:
        models = server.proxy.services.result().models
        root, user = KEYS
        assert models.resolve("gpt", root, fallback=True).name == "b"
        assert models.resolve("a", user, fallback=True).name == "a"
        for name, key, fallback in [("gpt", root, False), ("gpt", user, True), ("b", user, True)]:
            with pytest.raises(Exception, match=f'model "{name}" not found'):
                models.resolve(name, key, fallback=fallback)
