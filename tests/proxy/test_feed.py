"""GET /models/sse and /admin/deaths: what watchers are told, in which order, and what a slow or returning one gets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from proxy import feed as feeds
from proxy.dialects.model_events import change
from proxy.feed import Feed, Reader, Record
from supervisor.config import Key
from supervisor.config import Server as ServerTable
from supervisor.control import Death, Died, Listed, ModelChanged, ModelStatus, State, Unlisted
from tests.proxy.harness import WITHIN, Harness, loaded, settings, until

EVENTS = "/models/sse"
ALICE = {"authorization": "Bearer alice"}


class Watcher:
    """Reads records: `(id, record)`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, id: str | None = None) -> tuple[str | None, dict[str, Any]]:
        async with asyncio.timeout(WITHIN):
            async for line in self._lines:
                if line.startswith("id: "):
                    id = line[4:]
                elif line.startswith("data: "):
                    return id, json.loads(line[6:])
        raise AssertionError("the stream has ended")

    async def ended(self) -> bool:
        async with asyncio.timeout(WITHIN):
            async for _ in self._lines:
                pass
        return True


@asynccontextmanager
async def watching(server: Harness, path: str = EVENTS, **headers: str) -> AsyncIterator[Watcher]:
    async with server.client.stream(
        "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}
    ) as response:
        assert response.status_code == 200
        yield Watcher(response)


def at(state: State, **more: Any) -> ModelStatus:
    return loaded(state=state, **{"facts": None, "loaded_at": None} | more)


def tell(server: Harness, number: int, status: ModelStatus) -> None:
    server.tell(ModelChanged(status, number))


async def test_a_watcher_is_told_how_it_is_and_then_what_changes() -> None:
    async with Harness() as server, watching(server) as watcher:
        assert watcher.response.headers["content-type"].startswith("text/event-stream")
        first = {"model": "m", "event": "status_change", "data": {"status": "unloaded", "snapshot": True}}
        assert await watcher.next() == (".0", first)
        tell(server, 1, at(State.LOADING))
        tell(server, 2, at(State.LOADING, progress=0.42))
        tell(server, 3, at(State.LOADING, progress=0.42))  # nothing new
        tell(server, 4, loaded())
        tell(server, 5, loaded(state=State.DRAINING))
        tell(server, 6, at(State.STOPPING))
        tell(server, 7, at(State.UNLOADED, stop_reason="requested"))
        told = [await watcher.next() for _ in range(6)]
    assert [id for id, _ in told] == [".1", ".2", ".4", ".5", ".6", ".7"]
    assert [record["event"] for _, record in told] == ["model_status"] + ["status_change"] * 5
    data = [record["data"] for _, record in told]
    assert data[0] == {"status": "loading"}
    assert data[1]["progress"] == {"stages": ["text_model"], "current": "text_model", "value": 0.42}
    assert (data[2]["status"], data[2]["info"]["id"], data[2]["info"]["status"]["state"]) == ("loaded", "m", "ready")
    assert (data[3]["status"], data[3]["state"]) == ("loaded", "draining")
    assert (data[4]["status"], data[4]["state"]) == ("loaded", "stopping")
    assert data[5] == {"status": "unloaded", "exit_code": 0, "stop_reason": "requested"}


def test_a_load_that_is_called_off_is_never_called_loaded() -> None:
    called_off = change(at(State.LOADING), at(State.STOPPING))
    assert called_off is not None
    assert called_off.data == {"status": "loading", "state": "stopping"}


@pytest.mark.parametrize("state", [State.BACKOFF, State.FAILED])
@pytest.mark.parametrize("code", [-11, 0, None])
def test_a_bad_end_never_has_exit_code_0(state: State, code: int | None) -> None:
    ended = change(loaded(), at(state, exit_code=code, cause="crashed", signal="SIGSEGV", message="it crashed"))
    assert ended is not None
    assert ended.data["exit_code"] == (code or 1)
    assert (ended.data["cause"], ended.data["signal"], ended.data["message"]) == ("crashed", "SIGSEGV", "it crashed")


def test_a_new_generation_that_loads_is_a_new_load() -> None:
    begun = change(at(State.LOADING, generation=1, progress=0.9), at(State.LOADING, generation=2))
    assert begun is not None
    assert begun.event == "model_status"


async def test_who_comes_back_gets_what_was_missed_or_else_everything() -> None:
    async with Harness() as server:
        tell(server, 1, at(State.LOADING))
        tell(server, 2, loaded())
        known = server.proxy.services.result().feed
        await until(lambda: known.missed(".2", lambda name: True) == [])
        async with watching(server, last_event_id=".1") as watcher:
            id, record = await watcher.next()
            assert (id, record["data"]["status"], "snapshot" in record["data"]) == (".2", "loaded", False)
        for unknown in (".99", "other.1", "x", ".-1"):
            async with watching(server, last_event_id=unknown) as watcher:
                assert (await watcher.next())[1]["data"]["snapshot"] is True
        async with watching(server, EVENTS + "?snapshot=0") as watcher:
            tell(server, 4, at(State.UNLOADED))
            assert (await watcher.next())[0] == ".4"


async def test_half_a_snapshot_is_none() -> None:
    async with Harness(settings("a", "b")) as server, watching(server) as watcher:
        assert [(id, record["model"]) for id, record in [await watcher.next(), await watcher.next()]] == [
            (None, "a"),
            (".0", "b"),
        ]


async def test_a_key_sees_its_models_only_and_admins_the_log() -> None:
    keys = tuple(
        Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), models=models, admin=admin)
        for name, models, admin in (("alice", ("a*",), False), ("root", ("*",), True))
    )
    death = Death("w:a", 1.0, "crashed", "it crashed", -11, "SIGSEGV", model="a", log_tail=("secret",), retry_in_s=0.5)
    async with Harness(settings("a", "b", keys=keys)) as server:
        assert (await server.client.get(EVENTS)).status_code == 401
        for path in ("/admin/deaths", "/admin/deaths/20260101T000000Z-a-0000"):
            assert (await server.client.get(path, headers=ALICE)).status_code == 403
        async with watching(server, **ALICE) as alice, watching(server, authorization="Bearer root") as root:
            assert (await alice.next())[1]["model"] == "a"
            assert [(await root.next())[1]["model"] for _ in "ab"] == ["a", "b"]
            server.tell(ModelChanged(loaded("b"), 1))
            server.tell(Died(death, 2))
            server.tell(ModelChanged(loaded("a"), 3))
            id, record = await alice.next()
            assert (id, record["event"], record["data"]["cause"]) == (".2", "model_death", "crashed")
            assert "log_tail" not in record["data"]
            assert "pid" not in (await alice.next())[1]["data"]["info"]["runtime"]
            assert (await root.next())[1]["model"] == "b"
            assert (await root.next())[1]["data"]["log_tail"] == ["secret"]
        found = (await server.client.get("/admin/deaths?model=a", headers={"x-api-key": "root"})).json()["deaths"]
        assert [(each["model"], each["action"], each["retry_in_s"]) for each in found] == [("a", "restart", 0.5)]


async def test_deaths_are_newest_first_and_few_and_proxies_have_no_model() -> None:
    async with Harness() as server:
        for number in range(12):
            server.tell(Died(Death("w:m", number, "crashed", "", 1, model="m"), number))
        server.tell(Died(Death("proxy-1", 99.0, "killed", "", -9, "SIGKILL"), 13))
        await until(lambda: len(server.proxy.services.result().feed.deaths) == 11)
        found = (await server.client.get("/admin/deaths")).json()["deaths"]
        assert [death["at"] for death in found] == [99, *range(11, 1, -1)]
        assert found[0]["model"] is None
        assert len((await server.client.get("/admin/deaths?limit=3")).json()["deaths"]) == 3
        assert (await server.client.get("/admin/deaths?limit=-1")).json()["error"]["param"] == "limit"
        assert (await server.client.get("/admin/deaths?model=x")).status_code == 404


def record(number: int, model: str = "m", progress: bool = False) -> Record:
    return Record(number, model, "status_change", {}, progress=progress)


async def test_progress_of_a_model_replaces_the_one_before() -> None:
    reader = Reader(lambda name: True)
    for number in range(1000):
        reader.give(record(number, "ab"[number % 2], progress=True))
    reader.give(record(1000))
    assert [each.number for each in await reader.take()] == [998, 999, 1000]


async def test_a_reader_that_falls_behind_is_let_go() -> None:
    reader = Reader(lambda name: True)
    for number in range(feeds.BACKLOG):
        reader.give(record(number))
    assert not reader.closed
    reader.give(record(feeds.BACKLOG))
    assert reader.closed
    assert await reader.take() == []


def test_the_ring_forgets_and_says_so() -> None:
    feed = Feed("boot", 0, [at(State.UNLOADED)], [])
    for number in range(1, feeds.KEPT + 3):
        feed.changed(ModelChanged(at(State.LOADING, generation=number), number))
    sees = lambda name: True  # noqa: E731
    assert feed.missed("boot.1", sees) is None
    assert len(feed.missed("boot.2", sees) or ()) == feeds.KEPT


async def test_silence_is_filled_and_the_end_of_the_server_ends_the_stream() -> None:
    table = ServerTable(events_ping_interval=0.05)
    async with Harness(settings(server=table)) as server, watching(server) as watcher:
        await watcher.next()
        async with asyncio.timeout(WITHIN):
            async for line in watcher._lines:
                if line.startswith(":"):
                    break
        server.proxy.services.result().feed.close()
        assert await watcher.ended()


async def test_who_leaves_is_forgotten_and_head_does_not_stay() -> None:
    async with Harness() as server:
        known = server.proxy.services.result().feed
        async with watching(server) as watcher:
            await watcher.next()
            assert len(known._readers) == 1
        await until(lambda: not known._readers)
        assert (await server.client.head(EVENTS)).headers["content-type"].startswith("text/event-stream")


# -- downloads and the list ---------------------------------------------------------------------------------------


def test_a_download_is_told_from_its_beginning_to_its_end() -> None:
    empty, half = at(State.DOWNLOADING), at(State.DOWNLOADING, files={"http://hub/f": (5, 10)})
    told = [
        change(before, after)
        for before, after in (
            (at(State.UNLOADED), empty),
            (empty, half),
            (half, half),
            (half, at(State.UNLOADED)),
            (half, at(State.FAILED, cause="download_error", message="no room")),
        )
    ]
    assert [(each.event, each.data) if each else None for each in told] == [
        ("model_status", {"status": "downloading"}),
        ("download_progress", {"progress": {"http://hub/f": {"done": 5, "total": 10}}}),
        None,
        ("download_finished", {}),
        ("download_failed", {"message": "no room"}),
    ]


async def test_everybody_hears_of_another_list_but_not_of_a_model_beyond_the_key() -> None:
    feed = Feed("b", 7, [at(State.UNLOADED)], [])
    narrow, wide = feed.subscribe(lambda name: name == "mine"), feed.subscribe(lambda name: True)
    feed.listed(Listed((), (ModelStatus("new", State.UNLOADED, 0.0),), reload=True, number=8))
    feed.listed(Listed((), reload=False, number=9))
    feed.unlisted(Unlisted("new", 10))
    assert [(record.number, record.event) for record in await narrow.take()] == [(8, "models_reload")]
    told = [(record.number, record.model, record.event) for record in await wide.take()]
    assert told == [(8, "*", "models_reload"), (10, "new", "model_remove")]
    missed = feed.missed("b.8", lambda name: True)
    assert missed is not None
    assert [record.event for record in missed] == ["model_remove"]
    assert "new" not in [record.model for record in feed.snapshot(lambda name: True)]
