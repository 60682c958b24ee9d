"""GET and POST /lora-adapters, and the field `lora`."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.dialects import infill, native_completion, openai_chat, openai_completions
from proxy.dialects.props import model_props
from proxy.dialects.slots import row
from proxy.errors import ApiError
from supervisor.card import Adapter as Facts
from supervisor.card import Card
from supervisor.config import Adapter, Config, Key, Model, Sampling
from supervisor.control import Answer, Entry, Listed, ModelCommand
from tests.proxy.harness import CHAT, Harness, loaded, settings, until
from worker.protocol import Accepted, Details, Finished, Place, Started, Timings

BOTH = (Adapter(path="/far/pirate.gguf"), Adapter(path="/far/terse.gguf", scale=0.5))
KEYS = tuple(
    Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), admin=name == "root") for name in ("root", "alice")
)
LORA = [{"id": 1, "scale": 0.5}, {"id": 0, "scale": -2}]


def worn() -> Config:
    config = settings("m", "bare", keys=KEYS)
    model = replace(config.models["m"], lora=BOTH)
    return replace(config, models={**config.models, "m": model})


def rows(first: float, second: float, folder: str = "/far/") -> list[dict[str, Any]]:
    found = [("pirate", first), ("terse", second)]
    said = {"task_name": "", "prompt_prefix": ""}
    return [{"id": id, "path": f"{folder}{name}.gguf", "scale": scale} | said for id, (name, scale) in enumerate(found)]


# -- the field -----------------------------------------------------------------------------------------------------

ROUTES: dict[str, tuple[Any, dict[str, Any]]] = {
    "/completion": (native_completion.parse, {"prompt": "x"}),
    "/infill": (infill.parse, {"input_prefix": "a", "input_suffix": "b"}),
    "/v1/completions": (openai_completions.parse, {"prompt": ["x", "y"]}),
    "/v1/chat/completions": (openai_chat.parse, CHAT),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_request_names_scales(route: str) -> None:
    parse, body = ROUTES[route]
    assert {ask.lora for ask in parse(body | {"lora": LORA}, "r").asks} == {((1, 0.5), (0, -2.0))}
    assert {ask.lora for ask in parse(body | {"lora": []}, "r").asks} == {()}
    assert {ask.lora for said in ({}, {"lora": None}) for ask in parse(body | said, "r").asks} == {None}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("lora", "param", "text"),
    [
        ({"id": 0}, "lora", "expected list of objects (at most 256)"),
        ("x", "lora", "expected list of objects (at most 256)"),
        ([3], "lora[0]", "expected an object, got 3"),
        ([{"id": 0, "scale": 1}, {"scale": 1}], "lora[1].id", "required"),
        ([{"id": 0}], "lora[0].scale", "required (number from -1000 to 1000)"),
        ([{"id": -1, "scale": 1}], "lora[0].id", "expected integer from 0"),
        ([{"id": 0, "scale": "1"}], "lora[0].scale", "expected number from -1000 to 1000"),
        ([{"id": 0, "scale": 1001}], "lora[0].scale", "expected number from -1000 to 1000"),
        ([{"id": 0, "scale": 1}] * 257, "lora", "(at most 256)"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(route: str, lora: Any, param: str, text: str) -> None:
    parse, body = ROUTES[route]
    with pytest.raises(ApiError) as caught:
        parse(body | {"lora": lora}, "r")
    assert (caught.value.status, caught.value.param) == (400, param)
    assert text in str(caught.value)


async def test_the_answer_says_what_it_was_made_with() -> None:
    async with Harness(worn()) as server:
        server.client.headers["x-api-key"] = "alice"
        worker = await server.attach()
        response = server.post("/completion", model="m", prompt="x", lora=LORA)
        ask = await worker.next()
        details = Details(Sampling(seed=1), 3, False, ((0, -2.0), (1, 0.5)))
        end = Finished(ask.id, "eos", "", Timings(), details)
        worker.send(Accepted(ask.id, 1), Started(ask.id, 0), end)
        told = (await response).json()["generation_settings"]["lora"]
        assert told == [{"id": 0, "scale": -2.0}, {"id": 1, "scale": 0.5}]


def test_slots_and_props_say_it_too() -> None:
    place = Place(0, 64, task=3, sampling=Sampling(), lora=((1, 0.5),))
    assert row("m", place)["params"]["lora"] == [{"id": 1, "scale": 0.5}]
    model, told = Model(name="m", lora=BOTH), loaded("m", lora=(0.0, 3.0))
    props = model_props(model, told, ui=False, slots=True)["default_generation_settings"]["params"]["lora"]
    assert props == [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 3.0}]


# -- the routes ----------------------------------------------------------------------------------------------------


async def test_those_that_are_configured_are_listed_whether_loaded_or_not() -> None:
    async with Harness(worn()) as server:
        server.client.headers["x-api-key"] = "root"
        assert (await server.client.get("/lora-adapters?model=m")).json() == rows(1.0, 0.5)
        assert (await server.client.get("/lora-adapters?model=m-alias")).json() == rows(1.0, 0.5)
        assert (await server.client.get("/lora-adapters?model=bare")).json() == []
        card = Card(adapters=(Facts(5, "piracy", "Arr: "), Facts(6)))
        server.tell(Listed((Entry(server.config.models["m"], card=card),)))
        await server.change(lora=(0.0, 3.0))
        told = (await server.client.get("/lora-adapters?model=m")).json()
        assert told == [rows(0.0, 3.0)[0] | {"task_name": "piracy", "prompt_prefix": "Arr: "}, rows(0.0, 3.0)[1]]
        server.client.headers["x-api-key"] = "alice"
        told = (await server.client.get("/lora-adapters?model=m")).json()
        assert [each["path"] for each in told] == ["pirate.gguf", "terse.gguf"]
        assert server.said == [each for each in server.said if not isinstance(each, ModelCommand)]


async def test_an_admin_sets_scales_and_nothing_is_loaded() -> None:
    async with Harness(worn()) as server:
        server.client.headers["x-api-key"] = "root"
        posted = asyncio.ensure_future(server.client.post("/lora-adapters?model=m-alias", json=LORA))
        command = await server.heard(ModelCommand)
        assert (command.verb, command.model) == ("scale", "m")
        assert [tuple(each) for each in command.overrides["lora"]] == [(1, 0.5), (0, -2.0)]
        server.tell(Answer(command.ticket))
        response = await posted
        assert (response.status_code, response.json()) == (200, {"success": True})


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("?model=m", {"id": 0, "scale": 1}, "invalid_value", None),
        ("?model=m", [{"id": 2, "scale": 1}], "invalid_value", "[0].id"),
        ("?model=m", [{"id": 0, "scale": 1}, {"id": 1}], "missing_field", "[1].scale"),
        ("?model=m", [5], "invalid_value", "[0]"),
        ("?model=bare", [{"id": 0, "scale": 1}], "invalid_value", "[0].id"),
        ("?model=none", [], "model_not_found", "model"),
        ("", [], "missing_model", "model"),
    ],
)
async def test_what_cannot_be_set_is_refused_with_its_place(path: str, body: Any, code: str, param: str | None) -> None:
    async with Harness(worn()) as server:
        server.client.headers["x-api-key"] = "root"
        response = await server.client.post(f"/lora-adapters{path}", json=body)
        error = response.json()["error"]
        assert (error["code"], error["param"]) == (code, param), error
        assert response.status_code == (404 if code == "model_not_found" else 400)
        assert server.count(ModelCommand) == 0


async def test_only_admins_set_them() -> None:
    async with Harness(worn()) as server:
        server.client.headers["x-api-key"] = "alice"
        refused = await server.client.post("/lora-adapters?model=m", json=[])
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_required")
        assert (await server.client.get("/lora-adapters")).json()["error"]["code"] == "missing_model"
        assert (await server.client.get("/lora-adapters?model=none")).status_code == 404
        await until(lambda: server.count(ModelCommand) == 0)
