"""A model with several workers, as clients see it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from msgspec.structs import replace

from supervisor.config import Config
from supervisor.control import (
    Activity,
    Drain,
    Drained,
    Entry,
    Listed,
    Lost,
    ModelChanged,
    State,
    Unlisted,
    Want,
)
from tests.proxy.harness import FakeWorker, Harness, loaded, settings, until
from worker.protocol import Look, Place, Seen, Started

UNLOADED: dict[str, Any] = {"state": State.UNLOADED, "facts": None}


def two(**tables: Any) -> tuple[Config, Any, Any]:
    """A model of which there may be two workers, none of them loaded."""
    config = settings("m", **tables)
    config.models["m"] = replace(config.models["m"], replicas=2)
    return config, loaded("m", **UNLOADED), loaded("m#2", **UNLOADED)


def gate(server: Harness) -> Any:
    return server.proxy.services.result().models.gates["m"]


def say(server: Harness, *texts: str) -> asyncio.Task[httpx.Response]:
    roles = ["user", "assistant"] * len(texts)
    return server.post(messages=[{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)])


async def answered(worker: FakeWorker, number: int, task: asyncio.Task[httpx.Response]) -> None:
    worker.reply(await worker.next(number), "ok")
    assert (await task).status_code == 200


async def test_requests_go_to_the_least_busy_and_conversations_to_who_knows_them() -> None:
    async with Harness(*two()) as server:
        first, second = await server.attach("m"), await server.attach("m#2")
        one = say(server, "one")
        await first.next()
        other = say(server, "two")
        await answered(second, 1, other)
        await answered(first, 1, one)
        await answered(second, 2, say(server, "two", "ok", "and more"))
        await answered(first, 2, say(server, "something new"))


async def test_the_first_that_is_ready_serves_whoever_waits() -> None:
    async with Harness(*two()) as server:
        task = say(server, "hi")
        assert (await server.heard(Want)).model == "m"
        worker = await server.attach("m#2")
        await answered(worker, 1, task)
        await server.heard(Activity)
        assert {said.model for said in server.said if isinstance(said, Activity)} == {"m#2"}


async def test_what_waits_in_one_worker_moves_to_another_that_is_ready_now_but_nothing_that_has_begun() -> None:
    async with Harness(*two()) as server:
        first = await server.attach("m")
        tasks = []
        for number in range(6):
            tasks.append(say(server, f"number {number}"))
            ask = await first.next(number + 1)
            if number < 4:
                first.send(Started(ask.id, 0))
        await until(lambda: sum(lease.stream.begun for lease in gate(server).current.leases) == 4)
        second = await server.attach("m#2")
        for number in (1, 2):
            second.reply(await second.next(number), "ok")
        assert [(await task).status_code for task in tasks[4:]] == [200, 200]
        await until(lambda: sorted(first.cancelled) == [first.requests[4].id, first.requests[5].id])
        for ask in first.requests[:4]:
            first.reply(ask, "ok")
        assert [(await task).status_code for task in tasks[:4]] == [200] * 4


async def test_no_more_move_than_there_are_places_and_the_next_does_when_one_is_free_again() -> None:
    """Those that have begun stay, and of the rest as many as the worker has sequences for, the oldest."""
    async with Harness(*two()) as server:
        first = await server.attach("m")
        tasks = []
        for number in range(10):
            tasks.append(say(server, f"number {number}"))
            ask = await first.next(number + 1)
            if number in (0, 1, 9):
                first.send(Started(ask.id, 0))
        await until(lambda: sum(lease.stream.begun for lease in gate(server).current.leases) == 3)
        second = await server.attach("m#2")
        moved = [await second.next(number) for number in (1, 2, 3, 4)]
        await until(lambda: sorted(first.cancelled) == [ask.id for ask in first.requests[3:7]])
        second.reply(moved[0], "ok")
        assert (await tasks[3]).status_code == 200
        second.reply(await second.next(5), "ok")
        assert (await tasks[7]).status_code == 200
        second.reply(await second.next(6), "ok")
        assert (await tasks[8]).status_code == 200
        for ask in moved[1:]:
            second.reply(ask, "ok")
        for number in (0, 1, 2, 9):
            first.reply(first.requests[number], "ok")
        assert [(await task).status_code for task in tasks] == [200] * 10
        assert len(second.requests) == 6


async def test_the_end_of_one_ends_its_streams_only() -> None:
    async with Harness(*two()) as server:
        first, second = await server.attach("m"), await server.attach("m#2")
        tasks = [say(server, "one"), say(server, "two")]
        asks = [await first.next(), await second.next()]
        first.send(Started(asks[0].id, 0))
        await until(lambda: any(lease.stream.begun for lease in gate(server).replicas["m"].current.leases))
        server.lose("killed")
        assert (await tasks[0]).json()["error"]["cause"] == "killed"
        second.reply(asks[1], "ok")
        assert (await tasks[1]).status_code == 200
        await answered(second, 2, say(server, "three"))


async def test_a_replica_drains_by_itself() -> None:
    async with Harness(*two()) as server:
        first, second = await server.attach("m"), await server.attach("m#2")
        busy = say(server, "one")
        await first.next()
        server.tell(Drain("m", 1, "evicted"))
        await until(lambda: gate(server).replicas["m"].current.closed)
        await answered(second, 1, say(server, "one", "ok", "and more"))
        await answered(first, 1, busy)
        assert (await server.heard(Drained)).model == "m"


async def test_the_unload_of_a_further_one_turns_nobody_away() -> None:
    async with Harness(*two()) as server:
        task = say(server, "hi")
        await server.heard(Want)
        server.tell(Lost("m#2", 0, "unloaded", "the load was called off"))
        await server.heard(Want, 2)
        await answered(await server.attach("m"), 1, task)


async def test_who_waits_while_a_worker_leaves_is_wanted_anew_when_it_has_left() -> None:
    async with Harness() as server:
        await server.change(state=State.STOPPING)
        task = say(server, "hi")
        await server.heard(Want)
        server.lose("unloaded")
        await server.heard(Want, 2)
        await answered(await server.attach(generation=2), 1, task)


async def test_a_model_is_what_is_left_of_it_when_the_replica_that_served_is_taken_away() -> None:
    async with Harness(*two()) as server:
        await server.attach("m#2")
        assert gate(server).status.state is State.READY
        server.tell(Unlisted("m#2"))
        await until(lambda: not gate(server).several)
        assert gate(server).status.state is State.UNLOADED


async def test_lists_show_the_model_once_and_its_replicas_in_it() -> None:
    async with Harness(*two()) as server:
        await server.attach("m#2")
        (shown,) = (await server.client.get("/v1/models")).json()["data"]
        assert (shown["id"], shown["status"]["value"]) == ("m", "loaded")
        assert [(each["replica"], each["state"]) for each in shown["replicas"]] == [(1, "unloaded"), (2, "ready")]
        server.tell(ModelChanged(loaded("m", state=State.FAILED, cause="load_error", message="no")))
        await until(lambda: gate(server).replicas["m"].status.state is State.FAILED)
        (shown,) = (await server.client.get("/v1/models")).json()["data"]
        assert shown["status"]["value"] == "loaded"
        assert shown["replicas"][0]["cause"] == "load_error"
        assert (await server.client.get("/v1/models/m%232")).status_code == 404


async def test_the_places_of_all_are_shown() -> None:
    async with Harness(*two()) as server:
        workers = [await server.attach("m"), await server.attach("m#2")]
        asked = asyncio.get_running_loop().create_task(server.client.get("/slots"))
        for worker in workers:
            look = await worker.next()
            assert isinstance(look, Look)
            worker.send(Seen(look.id, [Place(number, 512) for number in range(2)]))
        rows = (await asked).json()
        assert [(row["id"], row["replica"]) for row in rows] == [(0, 1), (1, 1), (2, 2), (3, 2)]


async def test_watchers_hear_of_the_model_not_of_its_replicas() -> None:
    async with Harness(*two()) as server:
        feed = server.proxy.services.result().feed
        reader = feed.subscribe(lambda name: True)
        await server.attach("m")
        await server.attach("m#2")
        server.tell(ModelChanged(loaded("m", state=State.BACKOFF), 3))
        await until(lambda: gate(server).replicas["m"].status.state is State.BACKOFF)
        records = await reader.take()
        assert [record.model for record in records] == ["m"] * 3  # one more, one more, one less
        assert {(record.data or {})["status"] for record in records} == {"loaded"}
        server.tell(ModelChanged(loaded("m#2", state=State.BACKOFF), 4))
        await until(lambda: gate(server).status.state is State.BACKOFF)
        (record,) = await reader.take()
        assert (record.data or {})["status"] == "unloaded"


async def test_replicas_come_and_go_with_a_reload() -> None:
    async with Harness() as server:
        server.tell(Listed((Entry(server.config.models["m"]),), (loaded("m#2", **UNLOADED),)))
        await until(lambda: gate(server).several)
        second = await server.attach("m#2")
        await answered(second, 1, say(server, "hi"))
        server.tell(Lost("m#2", 1, "unloaded"))
        server.tell(Unlisted("m#2"))
        await until(lambda: not gate(server).several)
        assert [each["id"] for each in (await server.client.get("/v1/models")).json()["data"]] == ["m"]
