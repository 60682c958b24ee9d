"""Requests, queues, slots and metrics over HTTP: what is told to whom, and that looking changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.activity import Row, Viewer
from proxy.peers import AskCancel, AskEnded, AskQueues, AskRunning
from proxy.views import Queue
from supervisor.config import LLAMA_DEFAULTS, Placement, Server
from supervisor.control import (
    Activity,
    AskFigures,
    AskRoll,
    Figures,
    Finding,
    Inquired,
    Inquiry,
    Message,
    ModelChanged,
    Process,
    Report,
    Roll,
    State,
    Unwant,
    Want,
)
from supervisor.figures import Series
from supervisor.ledger import Ledger
from tests.proxy.harness import FakeWorker, Harness, loaded, settings, until
from tests.proxy.test_edges import KEYS
from worker.protocol import Accepted, Delta, Finished, Look, Place, Progress, Seen, Started, Timings, Vector

CHAT = "/v1/chat/completions"


async def begun(server: Harness, worker: FakeWorker, number: int = 1, **body: Any) -> tuple[Any, Any]:
    """A streaming chat that has said something, and its task."""
    task = server.post(stream=True, **body)
    ask = await worker.next(number)
    worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "a", 2))
    return task, ask


async def rows(server: Harness, path: str = "/requests", **headers: str) -> list[Any]:
    found = (await server.client.get(path, headers=headers)).json()
    assert isinstance(found, list)
    return found


async def scraped(server: Harness, query: str = "", **headers: str) -> httpx.Response:
    """GET /metrics, with the test as the root."""
    number = server.count(AskFigures) + 1
    task = asyncio.ensure_future(server.client.get(f"/metrics{query}", headers=headers))
    ask = await server.heard(AskFigures, number)
    ledger = Ledger()
    ledger.report("worker", [Series("llamacpp:tokens_predicted_total", (), (5.0,))], ("m",))
    reports = [message for message in server.said if isinstance(message, Report)]
    ledger.report("proxy", reports[-1].series)
    server.tell(Figures(ask.ticket, ledger.total()))
    return await task


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values; the parser refuses what is no such page."""
    families = list(text_string_to_metric_families(page))
    return {(s.name, *(s.labels[k] for k in sorted(s.labels))): s.value for family in families for s in family.samples}


# -- requests ---------------------------------------------------------------------------------------------------------


async def test_a_request_is_shown_in_each_of_its_states() -> None:
    async with Harness() as server:
        task = server.post(stream=True)
        await server.heard(Want)
        (row,) = await rows(server)
        assert (row["state"], row["queue_position"], row["endpoint"], row["stream"]) == ("queued", 1, CHAT, True)
        await server.change(state=State.LOADING, facts=None)
        assert [row["state"] for row in await rows(server)] == ["loading"]
        worker = await server.attach()
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3))
        await _until_state(server, "prefill")
        worker.send(Delta(ask.id, "a", 2))
        row = await _until_state(server, "generating")
        assert (row["model"], row["prompt_tokens"], row["cached_tokens"], row["generated"]) == ("m", 7, 3, 2)
        assert row["load_ms"] <= row["queue_ms"] <= row["first_ms"]
        assert row["completion_id"].startswith("chatcmpl-")
        worker.send(Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 2, 1.0)))
        await task
        assert await rows(server) == []
        found = (await server.client.get("/activity")).json()
        (done,) = found["recent"]
        assert found["running"] == []
        assert (done["id"], done["state"], done["outcome"], done["status"]) == (row["id"], "done", "ok", 200)
        assert done["total_ms"] >= done["first_ms"]
        assert done.keys() <= set(Row.__struct_fields__)
        assert not [text for text in done.values() if text in ("hi", "a")], "content was told"


async def _until_state(server: Harness, state: str) -> Any:
    while (found := (await rows(server))[0])["state"] != state:
        await asyncio.sleep(0.002)
    return found


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("by", ["id", "completion_id"])
async def test_a_running_request_is_cancelled_by_either_of_its_ids(stream: bool, by: str) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=stream)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), *([Delta(ask.id, "a")] if stream else []))
        (row,) = await until(lambda: server.proxy.services.result().views.activity.running(Viewer(admin=True)))
        id = getattr(row, by)
        response = await server.client.post(f"/requests/{id}/cancel")
        assert (response.status_code, response.json()) == (200, {"success": True})
        answer = await task
        assert "cancelled" in answer.text
        assert '"code":"cancelled"' in answer.text
        assert "[DONE]" not in answer.text
        assert answer.status_code == (200 if stream and '"a"' in answer.text else 400)
        await until(lambda: worker.cancelled == [ask.id])
        assert server.proxy.services.result().models.in_flight == 0
        again = await server.client.post(f"/requests/{id}/cancel")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")
        (done,) = (await server.client.get("/activity")).json()["recent"]
        assert (done["outcome"], done["status"]) == ("cancelled", 400)


async def test_a_cancelled_request_gives_its_place_back_at_once() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, _ = await begun(server, worker)
        (row,) = await rows(server)
        services = server.proxy.services.result()
        assert services.models.in_flight == 1
        assert services.views.activity.cancel(row["id"], Viewer(admin=True))
        assert services.models.in_flight == 0, "it waits for its client"
        await task


async def test_a_waiting_request_is_cancelled_and_its_want_goes_with_it() -> None:
    async with Harness() as server:
        task = server.post()
        await server.heard(Want)
        (row,) = await rows(server)
        assert (await server.client.post(f"/requests/{row['id']}/cancel")).status_code == 200
        response = await task
        assert (response.status_code, response.json()["error"]["code"]) == (400, "cancelled")
        await server.heard(Unwant)


async def test_a_key_sees_and_cancels_its_own_requests_and_an_admin_all() -> None:
    async with Harness(settings("ab", keys=KEYS)) as server:
        worker = await server.attach("ab")
        server.client.headers["x-api-key"] = "root"
        task, ask = await begun(server, worker, model="ab")
        (row,) = await _some(server, "root")
        assert row["key"] == "root"
        assert await rows(server, **{"x-api-key": "alice"}) == []
        path = f"/requests/{row['id']}/cancel"
        assert (await server.client.post(path, headers={"x-api-key": "alice"})).status_code == 404
        worker.send(Finished(ask.id, "eos", "", Timings()))
        await task
        for who, count in (("alice", 0), ("root", 1)):
            found = (await server.client.get("/activity", headers={"x-api-key": who})).json()
            assert len(found["recent"]) == count
        server.client.headers["x-api-key"] = "alice"
        await begun(server, worker, 2, model="ab")
        (own,) = await _some(server, "alice")
        assert "key" not in own
        assert (await server.client.post(f"/requests/{own['id']}/cancel")).status_code == 200


async def _some(server: Harness, who: str) -> list[Any]:
    while not (found := await rows(server, **{"x-api-key": who})):
        await asyncio.sleep(0.002)
    return found


async def test_a_client_that_leaves_and_an_error_have_their_outcomes() -> None:
    async with Harness() as server:
        worker = await server.attach()
        leaving = server.post()
        await worker.next()
        leaving.cancel()
        recent = server.proxy.services.result().views.activity.ended
        await until(lambda: list(recent(Viewer(admin=True))))
        task = server.post()
        ask = await worker.next(2)
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3))
        await _until_state(server, "prefill")
        server.lose("crashed")
        await task
        assert [(row.outcome, row.status) for row in recent(Viewer(admin=True))] == [
            ("client_gone", 499),
            ("worker_died", 500),
        ]
        found = samples((await scraped(server)).text)
        assert found["llama_supervisor_cancelled_total", "m", "client_gone"] == 1
        assert found["llama_supervisor_requests_total", CHAT, "", "m", "499"] == 1
        assert found["llama_supervisor_requests_total", CHAT, "", "m", "500"] == 1


async def test_vectors_have_a_row_of_their_own_kind() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/v1/embeddings", input="x")
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Vector(ask.id, 0, 1, b"\0\0\0\0"))
        worker.send(Finished(ask.id, "done", "", Timings(0, 7, 1.0)))
        assert (await task).status_code == 200
        (row,) = (await server.client.get("/activity")).json()["recent"]
        assert (row["endpoint"], row["prompt_tokens"], row["generated"]) == ("/v1/embeddings", 7, 0)
        assert "completion_id" not in row


async def test_rows_of_one_model_only() -> None:
    async with Harness(settings("a", "b")) as server:
        tasks = [server.post(model=name) for name in "ab"]
        await server.heard(Want, 2)
        assert [row["model"] for row in await rows(server, "/requests?model=b-alias")] == ["b"]
        assert (await server.client.get("/requests?model=c")).status_code == 404
        for row in await rows(server):
            await server.client.post(f"/requests/{row['id']}/cancel")
        for task in tasks:
            await task


# -- queue ------------------------------------------------------------------------------------------------------------


async def test_the_queue_tells_who_waits_and_what_for() -> None:
    config = settings("a", "b", placement=Placement(max_models=1))
    async with Harness(config) as server:
        worker = await server.attach("a")
        task, _ = await begun(server, worker, model="a")
        waiting = server.post(model="b")
        await server.heard(Want)
        blocked = loaded("b", state=State.UNLOADED, load_ms=500.0, blocked_by=("a",))
        server.tell(ModelChanged(blocked))
        await until(lambda: server.proxy.services.result().models.gates["b"].status.blocked_by)
        found = (await server.client.get("/queue")).json()
        oldest, eta = (found["models"][1].pop(name) for name in ("oldest_wait_ms", "eta_ms"))
        assert 5000 < eta <= 10500  # a closes after max_wait, then the load takes what it took
        assert found == {
            "models": [
                {"model": "a", "state": "ready", "in_flight": 1, "queued": 0, "oldest_wait_ms": 0},
                {"model": "b", "state": "unloaded", "in_flight": 0, "queued": 1, "blocked_by": ["a"]},
            ],
            "queued": 1,
            "limit": 1024,
        }
        assert oldest >= 0
        for row in await rows(server):
            await server.client.post(f"/requests/{row['id']}/cancel")
        await asyncio.gather(task, waiting)


# -- several proxies --------------------------------------------------------------------------------------------------


def told(row: str, since: float) -> Row:
    return Row(id=row, model="m", endpoint="/x", stream=False, state="queued", since=since)


async def others(server: Harness, answer: Any, number: int = 1, count: int = 1) -> Any:
    """Plays the other proxies: the question they get."""
    inquiry = await server.heard(Inquiry, number)
    server.tell(Inquired(inquiry.ticket, count))
    for _ in range(count):
        server.tell(Finding(inquiry.ticket, msgspec.msgpack.encode(answer), 0))
    return msgspec.msgpack.decode(inquiry.payload)


async def test_what_other_proxies_know_is_part_of_every_view() -> None:
    async with Harness(settings(server=Server(proxies=3))) as server:
        task = server.post()
        await server.heard(Want)
        asked = asyncio.ensure_future(rows(server))
        assert await others(server, [told("x", 1.0)], count=2) == {
            "type": "AskRunning",
            "viewer": {"key": "", "admin": True},
        }
        found = await asked
        assert [row["id"] for row in found[:2]] == ["x", "x"]
        assert len(found) == 3
        queue = asyncio.ensure_future(server.client.get("/queue"))
        await others(server, [Queue("m", 2, 3, 5e6)], 2)
        (row,) = (await queue).json()["models"]
        assert (row["in_flight"], row["queued"], row["oldest_wait_ms"]) == (2, 4, 5000000)
        gone = asyncio.ensure_future(server.client.post("/requests/far/cancel"))
        assert (await others(server, True, 3))["id"] == "far"
        assert (await gone).status_code == 200
        gone = asyncio.ensure_future(server.client.post(f"/requests/{found[2]['id']}/cancel"))
        await others(server, False, 4)
        assert (await gone).status_code == 200
        await task


async def test_a_proxy_answers_the_others() -> None:
    async with Harness(settings(server=Server(proxies=2))) as server:
        task = server.post()
        await server.heard(Want)
        admin = Viewer(admin=True)
        running = AskRunning(admin), AskRunning(Viewer(key="x"))
        questions = (*running, AskQueues(), AskEnded(admin), AskCancel("?", admin))
        answers = []
        for number, question in enumerate(questions, 1):
            server.tell(Inquiry(number, msgspec.msgpack.encode(question), 1))
            finding = await server.heard(Finding, number)
            assert (finding.ticket, finding.origin) == (number, 1)
            answers.append(msgspec.msgpack.decode(finding.payload))
        (row,), none, (queue,), ended, cancelled = answers
        assert (row["state"], queue["queued"], none, ended, cancelled) == ("queued", 1, [], [], False)
        server.tell(Inquiry(9, msgspec.msgpack.encode(AskCancel(row["id"], admin)), 1))
        assert (await task).json()["error"]["code"] == "cancelled"


async def test_proxies_that_are_silent_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.peers.PATIENCE", 0.05)
    async with Harness(settings(server=Server(proxies=2))) as server:
        assert await rows(server) == []
        inquiry = await server.heard(Inquiry)
        server.tell(Finding(inquiry.ticket, b"too late", 0))
        assert (await server.client.get("/health")).status_code == 200


# -- slots ------------------------------------------------------------------------------------------------------------

BUSY = Place(0, 256, True, 3, 9, 5, 4, 2, 6, True, LLAMA_DEFAULTS)


async def looked(server: Harness, worker: FakeWorker, number: int, *places: Place, query: str = "") -> httpx.Response:
    task = asyncio.ensure_future(server.client.get(f"/slots{query}"))
    look = await worker.next(number)
    assert isinstance(look, Look)
    worker.send(Seen(look.id, list(places)))
    return await task


async def test_slots_are_rows_of_loaded_models_and_looking_disturbs_nothing() -> None:
    async with Harness(settings("m", "idle")) as server:
        worker = await server.attach()
        before = len(server.said)
        (busy, idle) = (await looked(server, worker, 1, BUSY, Place(1, 256))).json()
        params = busy.pop("params")
        assert busy == {
            "id": 0,
            "n_ctx": 256,
            "speculative": False,
            "is_processing": True,
            "model": "m",
            "id_task": 3,
            "n_prompt_tokens": 9,
            "n_prompt_tokens_processed": 5,
            "n_prompt_tokens_cache": 4,
            "next_token": [{"has_next_token": True, "has_new_line": True, "n_remain": 6, "n_decoded": 2}],
        }
        assert (params["top_k"], params["n_predict"]) == (40, -1)
        assert idle == {"id": 1, "n_ctx": 256, "speculative": False, "is_processing": False, "model": "m"}
        assert (await server.client.get("/slots?model=idle")).json() == []
        assert (await server.client.get("/slots?model=nope")).status_code == 404
        assert server.count(Activity) == sum(isinstance(message, Activity) for message in server.said[:before])
        assert server.count(Want) == 0


async def test_without_an_idle_slot_the_flag_makes_it_an_error() -> None:
    async with Harness() as server:
        worker = await server.attach()
        free = await looked(server, worker, 1, BUSY, Place(1, 256), query="?fail_on_no_slot=1")
        assert free.status_code == 200
        full = await looked(server, worker, 2, BUSY, query="?fail_on_no_slot=1")
        assert (full.status_code, full.json()["error"]["code"]) == (503, "no_slot_available")


async def test_slots_can_be_turned_off() -> None:
    async with Harness(settings(server=Server(slots=False)), loaded()) as server:
        response = await server.client.get("/slots")
        assert (response.status_code, response.json()["error"]["code"]) == (501, "unsupported_feature")
        assert (await server.client.get("/props?model=m")).json()["endpoint_slots"] is False


async def test_a_worker_that_does_not_answer_has_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.routes.slots._PATIENCE", 0.05)
    async with Harness() as server:
        worker = await server.attach()
        assert (await server.client.get("/slots")).json() == []
        look = await worker.next()
        await until(lambda: worker.cancelled == [look.id])


# -- metrics ----------------------------------------------------------------------------------------------------------


async def test_the_page_parses_and_says_what_happened() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker)
        worker.send(Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 2, 1.0)))
        await task
        await server.client.get("/v1/models/m")
        await server.client.get("/nowhere/at/all")
        response = await scraped(server)
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = samples(response.text)
        assert found["llamacpp:tokens_predicted_total", "m"] == 5
        assert found["llama_supervisor_requests_total", CHAT, "", "m", "200"] == 1
        assert found["llama_supervisor_requests_total", "/v1/models/{id:path}", "", "m", "200"] == 1
        assert found["llama_supervisor_requests_total", "other", "", "", "404"] == 1
        assert found["llama_supervisor_queue_depth", "m"] == 0
        for name in ("queue_wait_seconds", "ttft_seconds"):
            assert found[f"llama_supervisor_{name}_count", "m"] == 1
            assert found[f"llama_supervisor_{name}_bucket", "+Inf", "m"] == 1


async def test_a_scrape_changes_nothing_but_its_own_count() -> None:
    async with Harness() as server:
        await server.attach()
        await scraped(server)
        before = [message for message in server.said if not isinstance(message, Report | AskFigures)]
        first, second = [samples((await scraped(server)).text) for _ in range(2)]
        own = ("llama_supervisor_requests_total", "/metrics", "", "", "200")
        assert second.pop(own) == first.pop(own) + 1
        assert first == second
        assert [message for message in server.said if not isinstance(message, Report | AskFigures)] == before


async def test_metrics_are_for_keys_that_see_the_model_or_for_all_if_so_configured() -> None:
    config = settings("m", "ab", keys=KEYS)
    async with Harness(config) as server:
        assert (await server.client.get("/metrics")).status_code == 401
        assert '"m"' not in (await scraped(server, **{"x-api-key": "alice"})).text
        assert '"m"' in (await scraped(server, **{"x-api-key": "root"})).text
        assert 'model="m"' not in (await scraped(server, "?model=ab", **{"x-api-key": "root"})).text
    config = settings("m", keys=KEYS, server=Server(metrics_public=True))
    async with Harness(config) as server:
        assert '"m"' in (await scraped(server)).text
        assert (await server.client.get("/slots")).status_code == 401


async def test_use_is_counted_by_key_and_a_key_is_told_its_own() -> None:
    async with Harness(settings("ab", keys=KEYS)) as server:
        worker = await server.attach("ab")
        for number, who in enumerate(("alice", "root", "root"), 1):
            server.client.headers["x-api-key"] = who
            task = server.post(model="ab")
            worker.reply(await worker.next(number), "one", "two")
            await task
        tokens, requests = "llama_supervisor_tokens_total", "llama_supervisor_requests_total"
        found = samples((await scraped(server)).text)
        for who, times in (("alice", 1), ("root", 2)):
            assert found[requests, CHAT, who, "ab", "200"] == times
            for kind, count in (("prompt", 7), ("cached", 3), ("completion", 2)):
                assert found[tokens, who, kind, "ab"] == times * count
        own = samples((await scraped(server, **{"x-api-key": "alice"})).text)
        assert own[tokens, "alice", "prompt", "ab"] == 7
        assert not [labels for labels in own if "root" in labels]


async def test_how_far_a_prompt_is_and_only_those_that_ask_are_told_in_their_stream() -> None:
    async with Harness() as server:
        worker = await server.attach()
        for number, asks in enumerate((False, True), 1):
            task = server.post(stream=True, return_progress=asks)
            ask = await worker.next(number)
            assert ask.return_progress
            worker.send(Accepted(ask.id, 70), Started(ask.id, 30))
            await _until_state(server, "prefill")
            assert (await rows(server))[0]["processed"] == 30
            worker.send(Progress(ask.id, 70, 30, 50, 1.0))
            while (await rows(server))[0]["processed"] != 50:
                await asyncio.sleep(0.002)
            worker.send(Delta(ask.id, "a"), Finished(ask.id, "eos", "", Timings(30, 40, 1.0, 1, 1.0)))
            assert ('"prompt_progress"' in (await task).text) is asks


async def test_every_process_of_the_tree_is_for_admins() -> None:
    async with Harness(settings("m", keys=KEYS)) as server:
        refused = await server.client.get("/admin/tree", headers={"x-api-key": "alice"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_required")
        task = asyncio.ensure_future(server.client.get("/admin/tree", headers={"x-api-key": "root"}))
        ask = await server.heard(AskRoll)
        root = Process("root", 1, 9.5, "running", "idle", 1.0, rss=5)
        worker = Process("w:m", 2, 1.0, "ready", "decode", 2.0, "m", 7, 12, 6, 3)
        server.tell(Roll(ask.ticket, [root, worker]))
        assert (await task).json()["processes"] == [
            {"role": "root", "pid": 1, "uptime_s": 9.5, "state": "running", "phase": "idle", "since": 1.0, "rss": 5},
            {
                "role": "w:m", "pid": 2, "uptime_s": 1.0, "state": "ready", "phase": "decode", "since": 2.0,
                "model": "m", "step": 7, "pong_age_ms": 12, "rss": 6, "restarts": 3,
            },
        ]  # fmt: skip


async def test_a_root_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.views._ROOT_PATIENCE", 0.05)
    async with Harness() as server:
        response = await server.client.get("/metrics")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "starting")


async def test_counts_are_reported_with_a_pong_once_they_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.views._REPORTS", 0.0)
    async with Harness() as server:
        await server.ping(1)
        await server.client.get("/health")
        await server.ping(2)
        report = await server.heard(Report)
        assert Series("llama_supervisor_requests_total", ("", "/health", "200", ""), (1,)) in report.series
        await server.ping(3)
        await server.client.get("/health")
        await server.ping(4)
        await server.heard(Report, 2)
        assert server.count(Report) == 2
        assert not [message for message in server.said if not isinstance(message, Message)]
