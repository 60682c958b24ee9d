"""Variants of a model: names of their own, its load, and their way in every dialect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.config import Admission, Config, Model, Sampling
from supervisor.control import Answer, Entry, Listed, ModelCommand, State, Unlisted
from tests.proxy.harness import Harness, loaded, settings, until
from tests.proxy.test_catalog import KEYS, listed

TERSE = Model(
    name="terse",
    base="m",
    aliases=("t",),
    title="Terse",
    system_prompt="Be brief.",
    sampling=Sampling(temperature=0.25),
    force=Sampling(top_k=3),
    chat_template_kwargs={"enable_thinking": False},
)
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}),
    ("/v1/responses", {"input": "hi"}),
    ("/api/chat", {"messages": [{"role": "user", "content": "hi"}], "stream": False}),
    ("/api/generate", {"prompt": "hi", "stream": False}),
    ("/v1/completions", {"prompt": "hi"}),
    ("/completion", {"prompt": "hi"}),
]


def with_variant(variant: Model = TERSE, **tables: Any) -> Config:
    return replace(settings("m", **tables), variants={variant.name: variant})


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_every_dialect_answers_in_the_variants_way_and_name(path: str, body: dict[str, Any]) -> None:
    async with Harness(with_variant()) as server:
        worker = await server.attach()
        answer = asyncio.ensure_future(server.client.post(path, json=body | {"model": "t", "top_k": 50}))
        ask = await worker.next()
        worker.reply(ask, "yes")
        response = await answer
        assert (response.status_code, response.headers["x-model"]) == (200, "terse")
        assert (ask.sampling.temperature, ask.sampling.top_k) == (0.25, 3)
        assert json.loads(response.text).get("model", "terse") in ("terse", "terse:latest")
        if hasattr(ask.prompt, "messages"):
            assert ask.prompt.messages[0] == {"role": "system", "content": "Be brief."}
            assert ask.prompt.template_kwargs == {"enable_thinking": False}


async def test_a_request_counts_before_the_variant_and_the_model_is_as_ever() -> None:
    async with Harness(with_variant()) as server:
        worker = await server.attach()
        first = server.post(model="terse", temperature=1.5, messages=[{"role": "system", "content": "own"}])
        ask = await worker.next()
        worker.reply(ask, "yes")
        assert (ask.sampling.temperature, ask.prompt.messages[0]["content"]) == (1.5, "own")
        assert (await first).json()["model"] == "terse"
        second = server.post(model="m")
        ask = await worker.next(2)
        worker.reply(ask, "yes")
        assert (ask.sampling, [message["role"] for message in ask.prompt.messages]) == (Sampling(), ["user"])
        assert (await second).json()["model"] == "m"


async def test_it_is_listed_with_its_models_state_and_loads_its_model() -> None:
    async with Harness(with_variant()) as server:
        await server.attach()
        found = {entry["id"]: entry for entry in (await server.client.get("/models")).json()["data"]}
        assert (found["terse"]["base"], found["terse"]["name"], found["terse"]["aliases"]) == ("m", "Terse", ["t"])
        assert found["terse"]["status"] == found["m"]["status"]
        assert "base" not in found["m"]
        assert (await server.client.get("/props?model=t")).json()["model_alias"] == "terse"
        assert [row["name"] for row in (await server.client.get("/api/tags")).json()["models"]] == [
            "m:latest",
            "terse:latest",
        ]
        task = asyncio.ensure_future(server.client.post("/models/unload", json={"model": "t"}))
        command = await server.heard(ModelCommand)
        server.tell(Answer(command.ticket))
        assert (command.model, (await task).json()) == ("m", {"success": True, "base": "m"})


async def test_a_key_needs_to_see_the_name_that_it_asks_for() -> None:
    keys = tuple(replace(key, models=("terse",)) if key.name == "user" else key for key in KEYS)
    async with Harness(with_variant(keys=keys)) as server:
        worker = await server.attach()
        headers = {"authorization": "Bearer user"}
        assert await listed(server, authorization="Bearer user") == ["terse"]
        body = {"messages": [{"role": "user", "content": "hi"}]}
        refused = await server.client.post("/v1/chat/completions", json=body | {"model": "m"}, headers=headers)
        assert refused.json()["error"]["code"] == "model_not_found"
        task = server.client.post("/v1/chat/completions", json=body | {"model": "terse"}, headers=headers)
        answer = asyncio.ensure_future(task)
        worker.reply(await worker.next(), "yes")
        assert (await answer).status_code == 200


async def test_watchers_are_told_under_each_name_that_they_see() -> None:
    keys = tuple(replace(key, models=("terse",)) if key.name == "user" else key for key in KEYS)
    async with Harness(with_variant(keys=keys)) as server:
        for key, expected in (("root", ["m", "terse"]), ("user", ["terse"])):
            headers = {"authorization": f"Bearer {key}"}
            async with server.client.stream("GET", "/models/sse", headers=headers) as stream:
                seen: list[Any] = []
                async for line in stream.aiter_lines():
                    seen += [json.loads(line[6:])] if line.startswith("data: ") else []
                    if len(seen) == len(expected):
                        break
                assert [event["model"] for event in seen] == expected


async def test_the_variant_of_a_model_that_comes_and_goes_does_so_too() -> None:
    later = replace(TERSE, base="later")
    async with Harness(with_variant(later)) as server:
        assert await listed(server) == ["m"]
        assert (await server.client.get("/v1/models/terse")).status_code == 404
        entry = Entry(Model(name="later"))
        server.tell(Listed((entry,), (loaded("later", state=State.UNLOADED, facts=None),)))
        known = server.proxy.services.result().models
        await until(lambda: "later" in known.gates)
        assert await listed(server) == ["later", "m", "terse"]
        server.tell(Unlisted("later"))
        await until(lambda: "later" not in known.gates)
        assert await listed(server) == ["m"]


async def test_a_variant_may_be_the_default_and_is_reached_upstream() -> None:
    async with Harness(with_variant(admission=Admission(default_model="terse"))) as server:
        worker = await server.attach()
        for number, (path, name) in enumerate(
            [("/v1/chat/completions", ""), ("/upstream/t/v1/chat/completions", "m")], 1
        ):
            answer = server.post(path, model=name)
            worker.reply(await worker.next(number), "yes")
            assert (await answer).json()["model"] == "terse"
