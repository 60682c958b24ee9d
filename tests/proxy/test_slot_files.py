"""POST /slots/{id}: who may, what is refused, which worker is asked, and what is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from proxy.dialects.slot_files import parse
from proxy.errors import BadRequest
from supervisor.config import Admission, Config, Server
from supervisor.control import State, Want
from tests.proxy.harness import CHAT, FakeWorker, Harness, loaded, settings, until
from tests.proxy.test_edges import KEYS
from worker.protocol import Failed, Generate, SlotAction, SlotDone, Started

FOLDER = Server(slot_save_path="/nowhere")
USER, ADMIN = ({"authorization": f"Bearer {name}"} for name in ("alice", "root"))


def two() -> tuple[Config, Any, Any]:
    """A model of which there may be two workers, none of them loaded."""
    config = settings("m", server=FOLDER)
    config.models["m"] = replace(config.models["m"], replicas=2)
    return config, *(loaded(name, state=State.UNLOADED, facts=None) for name in ("m", "m#2"))


def act(server: Harness, slot: object = 0, action: str = "save", **body: Any) -> asyncio.Task[httpx.Response]:
    found = {"filename": "a.bin"} | body
    return asyncio.ensure_future(server.client.post(f"/slots/{slot}?action={action}", json=found))


async def asked(worker: FakeWorker, number: int = 1) -> SlotAction:
    ask = await worker.next(number)
    assert isinstance(ask, SlotAction)
    return ask


async def test_each_action_answers_as_llama_server_does() -> None:
    async with Harness(settings(server=FOLDER)) as server:
        worker = await server.attach()
        answers = []
        for number, action in enumerate(("save", "restore", "erase"), 1):
            task = act(server, 2, action)
            ask = await asked(worker, number)
            assert (ask.slot, ask.action) == (2, action)
            worker.send(SlotDone(ask.id, 84, 1000, 4.9876))
            answers.append((await task).json())
        assert answers == [
            {"id_slot": 2, "filename": "a.bin", "n_saved": 84, "n_written": 1000, "timings": {"save_ms": 4.988}},
            {"id_slot": 2, "filename": "a.bin", "n_restored": 84, "n_read": 1000, "timings": {"restore_ms": 4.988}},
            {"id_slot": 2, "n_erased": 84},
        ]


async def test_it_is_off_unless_a_folder_is_configured() -> None:
    async with Harness() as server:
        error = (await act(server)).json()["error"]
        assert (error["status"], error["code"], error["feature"]) == (501, "unsupported_feature", "slot_save")
        assert "slot_save_path" in error["message"]


async def test_only_an_admin_may() -> None:
    async with Harness(settings(keys=KEYS, server=FOLDER)) as server:
        worker = await server.attach()
        for headers, status in ((USER, 403), ({}, 401)):
            response = await server.client.post("/slots/0?action=erase", headers=headers)
            assert response.status_code == status
        task = asyncio.ensure_future(server.client.post("/slots/0?action=erase", headers=ADMIN))
        worker.send(SlotDone((await asked(worker)).id, 0))
        assert (await task).status_code == 200


@pytest.mark.parametrize(
    ("slot", "action", "body", "param"),
    [
        ("x", "save", {}, "id"),
        ("-1", "save", {}, "id"),
        ("1.5", "save", {}, "id"),
        ("4", "save", {}, "id"),
        ("99999999999", "save", {}, "id"),
        ("0", "drop", {}, "action"),
        ("0", "", {}, "action"),
        ("0", "save", {"filename": ""}, "filename"),
        ("0", "save", {"filename": None}, "filename"),
        ("0", "save", {"filename": 5}, "filename"),
        ("0", "restore", {"filename": "../a"}, "filename"),
        ("0", "save", {"model": 5}, "model"),
    ],
)
async def test_what_cannot_be_meant_is_400_with_its_place(slot: str, action: str, body: Any, param: str) -> None:
    async with Harness(settings(server=FOLDER)) as server:
        await server.attach()
        error = (await act(server, slot, action, **body)).json()["error"]
        assert (error["status"], error["param"]) == (400, param)


@pytest.mark.parametrize(
    "name",
    ["a/b", "/a", "a\\b", "..", ".a", "a.", " a", "a ", "a\0b", "a\nb", "a\x7f", "a:b", "a*", "\ud800", "ä" * 128],
)
def test_a_name_that_is_no_plain_one_is_refused_with_the_reason(name: str) -> None:
    for action in ("save", "restore"):
        with pytest.raises(BadRequest, match="filename: expected") as caught:
            parse("0", action, {"filename": name}, "r")
        assert caught.value.param == "filename"


@pytest.mark.parametrize("name", ["a", "story 1.bin", "Märchen.bin", "a..b", "x" * 255, "qwen3-8b_2024@1+2"])
def test_a_plain_name_is_fine(name: str) -> None:
    assert parse("3", "save", {"filename": name}, "r") == SlotAction(0, "r", 3, "save", name)


async def test_an_unknown_model_is_404_even_with_a_fallback() -> None:
    config = settings("m", server=FOLDER, admission=Admission(fallback_model="m"))
    async with Harness(config) as server:
        await server.attach()
        assert (await act(server, model="other")).json()["error"]["code"] == "model_not_found"


async def test_the_model_is_named_in_the_body_or_the_query() -> None:
    async with Harness(settings("m", "n", server=FOLDER)) as server:
        worker = await server.attach("n")
        for number, (query, body) in enumerate((("", {"model": "n-alias"}), ("&model=n", {}), ("", {"model": "n"})), 1):
            path = f"/slots/0?action=erase{query}"
            task = asyncio.ensure_future(server.client.post(path, json=body))
            worker.send(SlotDone((await asked(worker, number)).id, 0))
            assert (await task).headers["x-model"] == "n"


async def test_errors_of_the_worker_keep_their_code() -> None:
    async with Harness(settings(server=FOLDER)) as server:
        worker = await server.attach()
        codes = (("sequence_busy", 409), ("storage_failed", 507), ("not_found", 404), ("no_slot_available", 503))
        for number, (code, status) in enumerate(codes, 1):
            task = act(server)
            ask = await asked(worker, number)
            worker.send(Failed(ask.id, code, "the reason", {"param": "filename"}))
            response = await task
            assert (response.status_code, response.json()["error"]["code"]) == (status, code)
            assert response.json()["error"]["param"] == "filename"
            assert response.headers.get("x-should-retry") == ("false" if status in (409, 507) else None)


async def test_only_a_restore_loads_the_model() -> None:
    async with Harness(settings(server=FOLDER)) as server:
        for action in ("save", "erase"):
            assert (await act(server, 0, action)).json()["error"]["code"] == "model_not_loaded"
        refused = await server.client.post("/slots/0?action=restore&autoload=false", json={"filename": "a"})
        assert refused.json()["error"]["code"] == "model_not_loaded"
        assert server.count(Want) == 0
        task = act(server, 1, "restore")
        await server.heard(Want)
        worker = await server.attach()
        ask = await asked(worker)
        worker.send(SlotDone(ask.id, 3, 4, 5.0))
        assert (await task).json()["n_restored"] == 3


async def test_the_model_is_in_use_meanwhile_and_a_client_that_leaves_is_cancelled() -> None:
    async with Harness(settings(server=FOLDER)) as server:
        worker = await server.attach()
        task = act(server)
        ask = await asked(worker)
        models = server.proxy.services.result().models
        assert models.in_flight == 1
        task.cancel()
        await until(lambda: worker.cancelled == [ask.id])
        await until(lambda: models.in_flight == 0)


async def test_a_worker_that_dies_is_told_and_it_is_not_done_by_the_next_one() -> None:
    async with Harness(settings(server=FOLDER)) as server:
        worker = await server.attach()
        task = act(server)
        await asked(worker)
        server.lose("crashed")
        assert (await task).json()["error"]["code"] == "worker_died"
        again = await server.attach("m", 2)
        assert again.requests == []


# -- several workers ----------------------------------------------------------------------------------------------


async def test_slots_are_counted_over_the_workers_as_they_are_shown() -> None:
    async with Harness(*two()) as server:
        first, second = await server.attach("m"), await server.attach("m#2")
        for slot, worker, own in ((3, first, 3), (4, second, 0), (7, second, 3)):
            before = len(worker.requests)
            task = act(server, slot, "erase")
            ask = await asked(worker, before + 1)
            assert ask.slot == own
            worker.send(SlotDone(ask.id, 1))
            assert (await task).json()["id_slot"] == slot
        assert (await act(server, 8)).json()["error"]["message"] == "id: expected integer from 0 to 7, got 8"


async def test_a_request_goes_to_the_worker_that_has_its_slot_and_says_the_number_that_clients_know() -> None:
    async with Harness(*two()) as server:
        first, second = await server.attach("m"), await server.attach("m#2")
        for number in (1, 2):
            task = server.post("/completion", prompt="x", id_slot=6)
            ask = await second.next(number)
            assert isinstance(ask, Generate)
            assert ask.slot == 6  # the worker counts on: two of its four
            second.send(Started(ask.id, 0, 2))
            second.reply(ask, "ok")
            assert (await task).status_code == 200
        assert first.requests == []
        task = server.post("/completion", prompt="y", id_slot=99)  # a hint: no such slot is no error
        first.reply(await first.next(), "ok")
        assert (await task).status_code == 200


async def test_the_slot_of_a_chat_reaches_the_worker() -> None:
    async with Harness(settings(server=FOLDER)) as server:
        worker = await server.attach()
        for number, path in enumerate(("/v1/chat/completions", "/v1/completions", "/completion"), 1):
            body = CHAT if "chat" in path else {"prompt": "x"}
            task = server.post(path, id_slot=3, **body)
            ask = await worker.next(number)
            assert ask.slot == 3
            worker.reply(ask, "ok")
            await task


async def test_a_full_worker_does_not_hand_it_to_another() -> None:
    async with Harness(*two()) as server:
        first = await server.attach("m")
        chats = [server.post(messages=[{"role": "user", "content": str(number)}]) for number in range(4)]
        await first.next(4)
        first.send(*(Started(chat.id, 0) for chat in first.requests))
        leases = server.proxy.services.result().models.gates["m"].current.leases
        await until(lambda: all(lease.stream.begun for lease in leases))
        task = act(server, 0, "erase")
        ask = await asked(first, 5)
        second = await server.attach("m#2")
        assert second.requests == []
        first.send(Failed(ask.id, "sequence_busy", "slot 0 is in use"))
        assert (await task).status_code == 409
        for number in range(1, 5):
            first.reply(await first.next(number), "ok")
        await asyncio.gather(*chats)
