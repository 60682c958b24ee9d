"""What a key may use: requests and tokens a minute, requests at once, paths; on one proxy and on several."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from proxy.activity import Viewer
from proxy.errors import ApiError
from proxy.limits import Limits
from supervisor.config import Config, Key, Server
from supervisor.control import KeyUse
from tests.proxy.harness import CHAT, FakeWorker, Harness, settings, until
from worker.protocol import Accepted, Delta, Finished, Started, Timings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(**limits: Any) -> Key:
    return Key(name="k", sha256=hashlib.sha256(b"secret").hexdigest(), **limits)


def refused(limits: Limits, one: Key) -> ApiError:
    with pytest.raises(ApiError) as caught:
        limits.admit(one)
    return caught.value


def test_requests_a_minute_come_back_one_after_the_other() -> None:
    one, clock = key(requests_per_minute=6), Clock()
    limits = Limits([one], clock=clock)
    for _ in range(6):
        limits.admit(one).close()
    error = refused(limits, one)
    assert (error.code, error.retry_after) == ("key_rate_limited", 10.0)
    assert error.fields == {"limit": 6, "limited": "requests_per_minute"}
    clock.now += 9.9
    assert refused(limits, one).retry_after == pytest.approx(0.1)
    clock.now += 0.2
    limits.admit(one).close()
    clock.now += 3600.0
    for _ in range(6):  # no more than a minute's worth is saved up
        limits.admit(one).close()
    refused(limits, one)


def test_tokens_are_paid_afterwards_and_a_debt_is_waited_out() -> None:
    one, clock = key(tokens_per_minute=60), Clock()
    limits = Limits([one], clock=clock)
    permit = limits.admit(one)
    clock.now += 30.0  # a long request: what it uses is not given back for the time it took
    permit.note([Accepted(1, 50), Delta(1, "a"), Finished(1, "eos", "", Timings(0, 50, 1.0, 40, 1.0))])
    permit.close()
    error = refused(limits, one)
    assert error.fields["limited"] == "tokens_per_minute"
    assert error.retry_after == pytest.approx(31.0)
    clock.now += 31.1
    limits.admit(one)
    (account,) = limits.accounts.values()
    assert (account.prompt_tokens, account.completion_tokens) == (50, 40)


def test_a_request_that_ends_early_pays_for_what_came() -> None:
    one = key()
    limits = Limits([one])
    permit = limits.admit(one)
    permit.note([Accepted(1, 7), Delta(1, "a", 1), Delta(1, "bc", 2)])
    permit.close()
    permit.close()
    (account,) = limits.accounts.values()
    assert (account.prompt_tokens, account.completion_tokens, account.running) == (7, 3, 0)


def test_requests_at_once() -> None:
    one = key(concurrency=2)
    limits = Limits([one])
    first, _ = limits.admit(one), limits.admit(one)
    assert refused(limits, one).fields["limited"] == "concurrency"
    first.close()
    limits.admit(one)
    (account,) = limits.accounts.values()
    assert (account.total_requests, account.refused) == (3, 1)


def test_several_proxies_share_one_account() -> None:
    one, told = key(requests_per_minute=3, tokens_per_minute=100, concurrency=2), list[KeyUse]()
    here, there = Limits([one], 0, told.append), Limits([one], 1, lambda use: None)

    def pass_on() -> None:
        for use in told:
            there.heard(use)
        told.clear()

    permit = here.admit(one)
    pass_on()
    other = there.admit(one)
    assert refused(there, one).fields["limited"] == "concurrency"
    permit.note([Accepted(1, 90), Finished(1, "eos", "", Timings(0, 90, 1.0, 20, 1.0))])
    permit.close()
    pass_on()
    other.close()
    assert refused(there, one).fields["limited"] == "tokens_per_minute"
    (account,) = there.accounts.values()
    assert account.object() == {
        "name": "k", "in_flight": 0, "requests": 2, "refused": 2, "prompt_tokens": 90, "completion_tokens": 20,
    }  # fmt: skip


# -- over HTTP --------------------------------------------------------------------------------------------------------

ADMIN = Key(name="admin", sha256=hashlib.sha256(b"admin").hexdigest(), admin=True)


def config(**limits: Any) -> Config:
    server = Server(proxies=2) if limits.pop("several", False) else Server()
    return replace(settings(server=server), keys=(key(**limits), ADMIN))


def as_(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def chat(server: Harness, path: str = "/v1/chat/completions", text: str = "secret") -> httpx.Response:
    return await server.client.post(path, json=CHAT, headers=as_(text))


async def test_a_key_that_is_used_up_gets_429_with_a_time_and_lists_stay_free() -> None:
    async with Harness(config(requests_per_minute=1)) as server:
        worker = await server.attach()
        server.client.headers.update(as_("secret"))
        task = server.post()
        worker.reply(await worker.next(), "a", "b")
        assert (await task).status_code == 200
        for path in ("/v1/chat/completions", "/v1/messages", "/api/chat"):
            response = await chat(server, path)
            assert response.status_code == 429
            assert 1 <= int(response.headers["retry-after"]) <= 60
        assert (await server.client.get("/v1/models")).status_code == 200
        assert (await server.client.get("/admin/keys")).status_code == 403
        found = (await server.client.get("/admin/keys", headers=as_("admin"))).json()["keys"][0]
        assert found == {
            "name": "k", "in_flight": 0, "requests": 1, "refused": 3, "prompt_tokens": 7, "completion_tokens": 2,
        }  # fmt: skip


async def begin(worker: FakeWorker) -> None:
    ask = await worker.next()
    worker.send(Accepted(ask.id, 7), Started(ask.id, 0), Delta(ask.id, "a"))


async def test_a_place_is_given_back_when_the_client_leaves() -> None:
    async with Harness(config(concurrency=1)) as server:
        worker = await server.attach()
        body = CHAT | {"stream": True}
        begun = asyncio.ensure_future(begin(worker))
        async with server.client.stream("POST", "/v1/chat/completions", json=body, headers=as_("secret")) as response:
            await begun
            await anext(response.aiter_bytes())
            assert (await chat(server)).json()["error"]["limited"] == "concurrency"
        (account, _) = server.proxy.services.result().limits.accounts.values()
        await until(lambda: account.running == 0)
        assert account.prompt_tokens == 7


async def test_what_comes_late_in_a_stream_is_paid_as_well() -> None:
    async with Harness(config(tokens_per_minute=1000)) as server:
        worker = await server.attach()
        body = CHAT | {"stream": True}
        begun = asyncio.ensure_future(begin(worker))
        async with server.client.stream("POST", "/v1/chat/completions", json=body, headers=as_("secret")) as response:
            await begun
            records = response.aiter_bytes()
            await anext(records)
            (ask,) = worker.requests
            worker.send(Delta(ask.id, "b", 40), Finished(ask.id, "eos", "", Timings(0, 7, 1.0, 41, 1.0)))
            assert b"[DONE]" in b"".join([part async for part in records])
        (account, _) = server.proxy.services.result().limits.accounts.values()
        await until(lambda: account.running == 0)
        assert (account.prompt_tokens, account.completion_tokens) == (7, 41)


async def test_a_request_that_goes_to_a_second_worker_is_paid_once() -> None:
    async with Harness(config(tokens_per_minute=1000)) as server:
        worker = await server.attach()
        task = asyncio.ensure_future(chat(server))
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7))  # but it does not begin
        row = server.proxy.services.result().views.activity
        await until(lambda: [each for each in row.running(Viewer(admin=True)) if each.queue_ms is not None])
        server.lose("crashed")
        second = await server.attach(generation=2)
        second.reply(await second.next(), "a", "b")
        assert (await task).status_code == 200
        (account, _) = server.proxy.services.result().limits.accounts.values()
        await until(lambda: account.running == 0)
        assert (account.prompt_tokens, account.completion_tokens) == (7, 2)


async def test_the_priority_of_a_key_reaches_the_worker() -> None:
    async with Harness(config(priority=7)) as server:
        worker = await server.attach()
        server.client.headers.update(as_("secret"))
        task = server.post()
        ask = await worker.next()
        assert ask.priority == 7
        worker.reply(ask, "ok")
        await task


@pytest.mark.parametrize("path", ["/v1/messages", "/upstream/m/v1/messages", "/upstream/m/v1/messages/"])
async def test_a_key_reaches_only_its_paths(path: str) -> None:
    async with Harness(config(endpoints=("/v1/chat/*", "/v1/models"))) as server:
        response = await chat(server, path)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "endpoint_not_allowed")
        worker = await server.attach()
        server.client.headers.update(as_("secret"))
        for number, allowed in enumerate(("/v1/chat/completions", "/upstream/m/v1/chat/completions"), start=1):
            task = server.post(allowed)
            worker.reply(await worker.next(number), "ok")
            assert (await task).status_code == 200
        assert (await server.client.get("/health")).status_code == 200


async def test_what_a_key_uses_is_told_to_the_root_where_there_are_several_proxies() -> None:
    async with Harness(config(several=True, concurrency=1)) as server:
        worker = await server.attach()
        server.client.headers.update(as_("secret"))
        task = server.post()
        worker.reply(await worker.next(), "ok")
        await task
        await server.heard(KeyUse, 3)
        uses = [said for said in server.said if isinstance(said, KeyUse)]
        assert [(use.running, use.requests, use.prompt_tokens, use.completion_tokens) for use in uses] == [
            (1, 1, 0, 0),
            (1, 0, 7, 1),
            (0, 0, 0, 0),
        ]
        server.tell(KeyUse("k", 1, running=1))
        await until(lambda: server.proxy.services.result().limits.accounts["k"].elsewhere == {1: 1})
        assert (await server.post()).status_code == 429
