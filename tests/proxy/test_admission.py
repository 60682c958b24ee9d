"""Who is served at once, who waits, and who is turned away: API.md, 1.2 and 1.8."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import Any

import pytest

from supervisor.config import Admission, Key, Server
from supervisor.control import Activity, State, Unwant, Want
from tests.proxy.harness import Harness, loaded, settings, until

UNLOADED = {"state": State.UNLOADED, "facts": None}


async def test_a_ready_model_is_served_without_asking_the_root() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post()
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200
        assert server.count(Want) == 0
        await until(lambda: server.count(Activity) == 3)
        assert [said.in_flight for said in server.said if isinstance(said, Activity)] == [0, 1, 0]


async def test_who_waited_is_in_flight_before_the_root_hears_that_the_model_is_idle() -> None:
    async with Harness() as server:
        task = server.post()
        await server.heard(Want)
        worker = await server.attach()
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200
        await until(lambda: server.count(Activity) == 2)
        assert [said.in_flight for said in server.said if isinstance(said, Activity)] == [1, 0]


async def test_waiters_of_one_model_are_one_want_and_are_served_in_order() -> None:
    async with Harness() as server:
        tasks = []
        for number in range(3):
            tasks.append(server.post(messages=[{"role": "user", "content": str(number)}]))
            await until(lambda number=number: server.proxy.services.result().models.gates["m"].queued == number + 1)
        await server.heard(Want)
        worker = await server.attach()
        for number in range(3):
            ask = await worker.next(number + 1)
            assert ask.prompt.messages[0]["content"] == str(number)
            worker.reply(ask, "ok")
        assert [(await task).status_code for task in tasks] == [200] * 3
        assert server.count(Want) == 1
        assert server.count(Unwant) == 0


async def test_the_time_spent_loading_is_told() -> None:
    async with Harness() as server:
        task = server.post()
        await server.heard(Want)
        began = time.monotonic()
        await server.change(state=State.LOADING, facts=None)
        worker = await server.attach()
        ask = await worker.next()
        worker.reply(ask, "ok")
        headers = (await task).headers
        assert 0 <= float(headers["x-load-ms"]) <= (time.monotonic() - began) * 1000 + 1
        assert float(headers["x-queue-ms"]) >= float(headers["x-load-ms"])


async def test_the_queue_is_bounded_and_the_newcomer_pays() -> None:
    async with Harness(settings(admission=Admission(max_queue=2))) as server:
        tasks = [server.post(), server.post()]
        await until(lambda: server.proxy.services.result().models.gates["m"].queued == 2)
        response = await server.post()
        assert response.status_code == 429
        assert response.json()["error"] | {"code": "queue_full", "queued": 2, "limit": 2} == response.json()["error"]
        assert int(response.headers["retry-after"]) >= 1
        for task in tasks:
            task.cancel()


async def test_requests_beyond_the_slots_and_the_queue_are_refused_on_a_ready_model() -> None:
    async with Harness(settings(admission=Admission(max_queue=1))) as server:
        worker = await server.attach()
        tasks = [server.post() for _ in range(5)]  # 4 slots and one in the worker's queue
        await worker.next(5)
        assert (await server.post()).json()["error"]["code"] == "queue_full"
        for ask in worker.requests:
            worker.reply(ask, "ok")
        assert [(await task).status_code for task in tasks] == [200] * 5


async def test_a_wait_has_an_end() -> None:
    async with Harness(settings(admission=Admission(queue_timeout=0.05))) as server:
        response = await server.post()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "queue_timeout")
        await server.heard(Unwant)


@pytest.mark.parametrize(
    ("query", "config", "status"),
    [("?autoload=false", True, 400), ("?autoload=0", True, 400), ("", False, 400), ("?autoload=maybe", True, 400)],
)
async def test_without_autoload_an_unloaded_model_is_an_error(query: str, config: bool, status: int) -> None:
    async with Harness(settings(admission=Admission(autoload=config))) as server:
        response = await server.post("/v1/completions" + query, prompt="x")
        assert response.status_code == status
        assert response.json()["error"]["code"] == ("invalid_value" if "maybe" in query else "model_not_loaded")
        assert server.count(Want) == 0


async def test_autoload_off_still_waits_for_a_load_that_runs() -> None:
    status = loaded(state=State.LOADING, facts=None)
    async with Harness(settings(admission=Admission(autoload=False)), status) as server:
        task = server.post()
        await server.heard(Want)
        worker = await server.attach()
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


@pytest.mark.parametrize(
    ("facts", "code", "retry"),
    [
        ({"state": State.FAILED, "cause": "file_corrupt", "message": "bad magic"}, "model_failed", False),
        ({"state": State.BACKOFF, "retry_due": time.monotonic() + 1e6, "cause": "crashed"}, "model_backoff", True),
    ],
)
async def test_a_model_that_cannot_be_had_is_refused_at_once(facts: dict[str, Any], code: str, retry: bool) -> None:
    status = loaded(exit_code=-11, signal="SIGSEGV", restarts=3, log_tail=("last words",), **facts)
    async with Harness(settings(), status) as server:
        response = await server.post(stream=True)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (503, code)
        assert ("retry-after" in response.headers) is retry
        assert (response.headers.get("x-should-retry") == "false") is not retry
        told = {"model": "m", "cause": facts["cause"], "exit_code": -11, "signal": "SIGSEGV", "restarts": 3}
        assert error | told == error
        assert error["log_tail"] == ["last words"]
        assert server.count(Want) == 0


@pytest.mark.parametrize("jump", [0.0, 3600.0, -3600.0])
async def test_a_short_back_off_is_waited_out(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the wall clock does."""
    monkeypatch.setattr("time.time", lambda now=time.time: now() + jump)
    status = loaded(state=State.BACKOFF, retry_due=time.monotonic() + 1, cause="crashed")
    async with Harness(settings(), status) as server:
        task = server.post()
        await server.heard(Want)
        worker = await server.attach(generation=2)
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


@pytest.mark.parametrize("state", [State.FAILED, State.BACKOFF])
async def test_those_who_wait_for_a_load_that_fails_are_told_why(state: State) -> None:
    async with Harness() as server:
        tasks = [server.post(), server.post(stream=True)]
        await until(lambda: server.proxy.services.result().models.gates["m"].queued == 2)
        await server.change(state=state, cause="out_of_memory", message="no room", retry_due=time.monotonic() + 60)
        for task in tasks:
            response = await task
            error = response.json()["error"]
            assert response.status_code == 503
            assert error["code"] == ("model_failed" if state is State.FAILED else "model_load_failed")
            assert error["cause"] == "out_of_memory"


async def test_a_suspended_model_admits_nobody_new() -> None:
    async with Harness() as server:
        worker = await server.attach()
        await server.change(suspended=True)
        await until(lambda: server.proxy.services.result().models.gates["m"].status.suspended)
        task = server.post()
        await server.heard(Want)
        assert worker.requests == []
        await server.change(suspended=False)
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


@pytest.mark.parametrize(
    ("model", "code"), [("nope", "model_not_found"), ("../../etc/passwd", "model_not_found"), ("", "missing_model")]
)
async def test_names_that_lead_nowhere(model: str, code: str) -> None:
    async with Harness(settings("a", "b")) as server:
        response = await server.post(model=model)
        assert response.json()["error"]["code"] == code
        assert response.json()["error"]["param"] == "model"


async def test_the_default_model_answers_requests_without_a_name() -> None:
    async with Harness(settings("a", "b", admission=Admission(default_model="b-alias"))) as server:
        worker = await server.attach("b")
        task = server.post(model=None)
        worker.reply(await worker.next(), "ok")
        assert (await task).headers["x-model"] == "b"


async def test_a_worker_that_does_not_read_gets_no_new_requests() -> None:
    async with Harness() as server:
        worker = await server.attach()
        gate = server.proxy.services.result().models.gates["m"]
        assert gate.current is not None
        gate.current.link.pause_writing()
        response = await server.post()
        assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
        gate.current.link.resume_writing()
        task = server.post()
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


async def test_all_queues_together_are_bounded() -> None:
    limits = Admission(max_queue=2, max_queue_total=3)
    async with Harness(settings("m", "n", admission=limits)) as server:
        gates = server.proxy.services.result().models.gates
        tasks = [server.post(model=name) for name in ("m", "m", "n")]
        await until(lambda: gates["m"].queued + gates["n"].queued == 3)
        error = (await server.post(model="m")).json()["error"]
        assert (error["code"], error["model"], error["queued"], error["limit"]) == ("queue_full", "m", 2, 2)
        response = await server.post(model="n")
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["queued"], error["limit"]) == (429, "queue_full", 3, 3)
        assert "model" not in error
        assert int(response.headers["retry-after"]) >= 1
        tasks.pop().cancel()
        await until(lambda: gates["n"].queued == 0)
        tasks.append(server.post(model="n"))
        await until(lambda: gates["n"].queued == 1)  # there is room again
        for task in tasks:
            task.cancel()


async def test_several_proxies_share_the_bound() -> None:
    limits = settings(admission=Admission(max_queue=4), server=Server(proxies=2))
    async with Harness(limits) as server:
        tasks = [server.post(), server.post()]
        await until(lambda: server.proxy.services.result().models.gates["m"].queued == 2)
        assert (await server.post()).json()["error"]["limit"] == 4
        for task in tasks:
            task.cancel()


def keyed_post(server: Harness, key: str) -> asyncio.Task[Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": f"Bearer {key}"}
    return asyncio.ensure_future(server.client.post("/v1/chat/completions", json=body, headers=headers))


async def test_the_root_is_told_how_important_those_are_who_wait() -> None:
    keys = tuple(
        Key(name=name, sha256=sha256(name.encode()).hexdigest(), priority=p) for name, p in (("a", 0), ("b", 7))
    )
    async with Harness(settings(keys=keys)) as server:
        gate = server.proxy.services.result().models.gates["m"]
        low = keyed_post(server, "a")
        await until(lambda: gate.queued == 1)
        high = keyed_post(server, "b")
        await until(lambda: gate.queued == 2)
        high.cancel()
        await until(lambda: gate.queued == 1)
        low.cancel()
        await server.heard(Unwant)
        said = [message for message in server.said if isinstance(message, Want | Unwant)]
        assert said == [Want("m"), Want("m", 7), Want("m"), Unwant("m")]
