"""What the root orders, and what becomes of the requests: losses, drains, broken links, shutdown."""

from __future__ import annotations

import os
import signal
from typing import Any

import httpx
import pytest

from proxy import models
from proxy.errors import WorkerLost
from supervisor.control import (
    Attach,
    Busy,
    Drain,
    Drained,
    LinkBroken,
    Ping,
    Pong,
    Reopen,
    Ring,
    ShutDown,
    Shutdown,
    State,
    Want,
)
from tests.proxy.harness import WITHIN, FakeWorker, Harness, settings, until
from tests.proxy.test_generation import records
from worker.protocol import Accepted, Delta, Finished, Generate, Hello, Started, Timings


async def begun(server: Harness, worker: FakeWorker, number: int = 1, **body: Any) -> tuple[Any, Generate]:
    """A request that the worker has begun and sent one delta for."""
    task = server.post(**body)
    ask = await worker.next(number)
    worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Delta(ask.id, "a"))
    gate = server.proxy.services.result().models.gates["m"]
    await until(lambda: gate.current and any(lease.stream.begun for lease in gate.current.leases))
    return task, ask


@pytest.mark.parametrize(
    ("cause", "code"), [("killed", "worker_died"), ("out_of_memory", "worker_died"), ("hung", "worker_hung")]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_begun_request_ends_with_its_worker_and_is_not_repeated(cause: str, code: str, stream: bool) -> None:
    async with Harness() as server:
        task, _ = await begun(server, await server.attach(), stream=stream)
        server.lose(cause)
        response = await task
        error = records(response.text)[-1]["error"] if stream else response.json()["error"]
        assert (error["code"], error["cause"], error["status"]) == (code, cause, 500)
        assert "[DONE]" not in response.text
        if not stream:
            assert response.headers["x-should-retry"] == "false"
        again = await server.attach(generation=2)
        assert again.requests == []


async def test_a_request_that_was_not_begun_goes_to_the_next_generation_once() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(stream=True)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7))
        server.lose("killed")
        await server.heard(Want)
        worker = await server.attach(generation=2)
        ask = await worker.next()
        worker.reply(ask, "ok")
        found = records((await task).text)
        assert found[-1] == "[DONE]"
        task = server.post()
        await worker.next(2)
        server.lose("killed", generation=2)
        worker = await server.attach(generation=3)
        await worker.next()
        server.lose("killed", generation=3)
        assert (await task).json()["error"]["code"] == "worker_died"


async def test_other_models_lose_nothing() -> None:
    async with Harness(settings("m", "b")) as server:
        dying, other = await server.attach(), await server.attach("b")
        task, _ = await begun(server, dying, model="m", stream=True)
        kept = server.post(model="b", stream=True)
        ask = await other.next()
        server.lose("killed")
        await task
        other.reply(ask, "x", "y")
        assert records((await kept).text)[-1] == "[DONE]"


async def test_the_cause_of_a_death_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LOST_GRACE", WITHIN)
    async with Harness() as server:
        worker = await server.attach()
        task, _ = await begun(server, worker)
        worker.die()
        gate = server.proxy.services.result().models.gates["m"]
        await until(lambda: not gate.admits)
        server.lose("out_of_memory")
        assert (await task).json()["error"]["cause"] == "out_of_memory"
        assert server.count(LinkBroken) == 0


async def test_a_link_that_ends_under_a_living_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LOST_GRACE", 0.05)
    async with Harness() as server:
        worker = await server.attach()
        task, _ = await begun(server, worker)
        worker.die()
        assert (await task).json()["error"]["code"] == "worker_died"
        assert (await server.heard(LinkBroken)).generation == 1
        again = await server.attach()
        task = server.post()
        again.reply(await again.next(), "ok")
        assert (await task).status_code == 200


GARBAGE = [b"\x00\x00\x00\x03abc", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_breaks_the_link_and_ends_its_streams(garbage: bytes) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, _ = await begun(server, worker)
        worker.far.send(garbage)
        assert (await task).json()["error"]["cause"] == "link_broken"
        assert (await server.heard(LinkBroken)).model == "m"


@pytest.mark.parametrize("hello", [Hello(99, 1), Hello(1, 7), Delta(1, "x")])
async def test_a_worker_of_another_version_or_generation_is_no_worker(hello: Any) -> None:
    async with Harness() as server:
        worker = FakeWorker(1)
        server.workers.append(worker)
        worker.hello = hello
        from supervisor.control import Attach

        server.tell(Attach("m", 1), worker.near.fileno())
        worker.start()
        worker.near.close()
        await server.heard(LinkBroken)
        assert not server.proxy.services.result().models.gates["m"].admits


async def test_a_drain_of_an_idle_model_is_answered_at_once_and_later_requests_wait() -> None:
    async with Harness() as server:
        worker = await server.attach()
        server.tell(Drain("m", 1, "evicted", if_idle=True))
        await server.heard(Drained)
        task = server.post()
        await server.heard(Want)
        assert worker.requests == []
        server.tell(Reopen("m", 1))
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


async def test_a_busy_model_is_not_drained_for_another() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker)
        server.tell(Drain("m", 1, "evicted", if_idle=True))
        await server.heard(Busy)
        other = server.post()
        worker.reply(await worker.next(2), "ok")
        assert (await other).status_code == 200
        worker.reply(ask, "ok")
        await task
        assert server.count(Drained) == 0


async def test_a_drain_waits_for_what_runs() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker)
        server.tell(
            Drain("m", 1, "requested", deadline=60.0),
        )
        server.tell(Ping(1))
        await server.heard(Pong)
        assert server.count(Drained) == 0
        worker.reply(ask, "ok")
        assert (await task).status_code == 200
        await server.heard(Drained)


async def test_after_the_drain_deadline_streams_end_with_the_reason() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker, stream=True)
        server.tell(Drain("m", 1, "requested", deadline=0.05))
        error = records((await task).text)[-1]["error"]
        assert (error["code"], error["reason"]) == ("model_unloaded", "requested")
        await server.heard(Drained)
        await until(lambda: worker.cancelled == [ask.id])


async def test_a_drain_of_an_unknown_generation_is_drained() -> None:
    async with Harness() as server:
        server.tell(Drain("m", 5, "requested"))
        assert (await server.heard(Drained)).generation == 5


async def test_a_cancelled_load_sends_its_waiters_away() -> None:
    async with Harness() as server:
        task = server.post()
        await server.heard(Want)
        await server.change(state=State.LOADING)
        server.lose("unloaded")
        assert (await task).json()["error"]["code"] == "model_unloaded"


async def test_shutdown_refuses_the_new_and_lets_the_running_end() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker, stream=True)
        assert (await server.client.get("/health")).status_code == 200
        server.tell(Shutdown(30.0))
        await until(lambda: server.proxy.services.result().stopping)
        response = await server.post()  # on a kept connection
        assert (response.status_code, response.json()["error"]["code"]) == (503, "shutting_down")
        assert "retry-after" not in response.headers
        async with httpx.AsyncClient(verify=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{server.port}/health")
        assert server.count(ShutDown) == 0
        worker.reply(ask, "end")
        assert records((await task).text)[-1] == "[DONE]"
        await server.heard(ShutDown)


async def test_shutdown_sends_those_who_wait_away_and_ends_streams_at_its_deadline() -> None:
    async with Harness(settings("m", "b")) as server:
        task, _ = await begun(server, await server.attach(), model="m", stream=True)
        waiting = server.post(model="b")
        await server.heard(Want)
        server.tell(Shutdown(0.1))
        assert (await waiting).json()["error"]["code"] == "shutting_down"
        assert records((await task).text)[-1]["error"]["code"] == "shutting_down"
        await server.heard(ShutDown)


async def test_sigterm_drains_and_ends_the_process_without_the_root() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker, stream=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: server.proxy.services.result().stopping)
        worker.reply(ask, "end")
        assert records((await task).text)[-1] == "[DONE]"
        await until(lambda: server.running.done())
        assert server.running.result() == 0


async def test_a_ping_is_answered_with_what_is_in_flight() -> None:
    async with Harness() as server:
        await begun(server, await server.attach(), stream=True)
        server.tell(Ping(41))
        pong = await server.heard(Pong)
        assert (pong.number, pong.active) == (41, 1)
        assert pong.steps > 0


async def test_a_link_that_this_process_cannot_take_is_asked_for_again_and_no_fault_of_the_worker() -> None:
    async with Harness() as server:
        server.tell(Ring("w:m"))  # nor can it take a log
        server.tell(Attach("m", 1))
        assert await server.heard(LinkBroken) == LinkBroken("m", 1, "no descriptors left", blameless=True)
        worker = await server.attach()
        task = server.post()
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200


async def test_what_has_been_answered_is_not_failed_any_more_by_what_befalls_the_link(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Harness() as server:
        worker = await server.attach()
        task, ask = await begun(server, worker, stream=True)
        (lease,) = server.proxy.services.result().models.gates["m"].current.leases
        lease.stream.push(Finished(ask.id, "eos", "", Timings()))
        server.proxy.services.result().models.gates["m"].current.end(lambda: WorkerLost("m", "hung"))
        found = (await task).text
        assert found.endswith("data: [DONE]\n\n")
        assert "error" not in found
        await until(lambda: server.proxy.services.result().models.in_flight == 0)
    assert "a bug" not in caplog.text
