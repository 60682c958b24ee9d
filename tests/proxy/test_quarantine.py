"""Requests that kill workers are told from those that only were there, and from their repetition."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import ApiError
from proxy.quarantine import DEATHS, MOST, SECONDS, Quarantine, digest
from supervisor.control import Blamed, Want
from tests.proxy.harness import Harness, until
from tests.proxy.test_endings import begun
from worker.protocol import Accepted, Chat, Generate, Text


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[bytes] = []
        self.quarantine = Quarantine(self.told.append, lambda: self.now)

    def refused(self, text: str) -> bool:
        try:
            self.quarantine.check(ask(text))
        except ApiError as error:
            return (error.code, error.status) == ("request_quarantined", 422)
        return False


def ask(text: str, **more: Any) -> tuple[Generate]:
    return (Generate(more.pop("id", 1), more.pop("request_id", "r"), Text((text,)), **more),)


def test_the_third_time_it_is_refused_and_others_are_not() -> None:
    world = World()
    for _ in range(DEATHS):
        assert not world.refused("poison")
        world.quarantine.blame(ask("poison"))
    assert world.refused("poison")
    assert not world.refused("another")
    assert world.told == [digest(ask("poison"))] * DEATHS


def test_it_is_the_same_whoever_sends_it_and_whenever() -> None:
    assert digest(ask("x")) == digest(ask("x", id=7, request_id="other", owner="bob", priority=3))
    assert digest(ask("x")) != digest(ask("y"))
    assert digest(ask("x")) != digest(ask("x", n_probs=3))
    chat = Generate(1, "r", Chat([{"role": "user", "content": "x"}]))
    assert digest((chat,)) != digest(ask("x"))


def test_what_was_answered_or_is_long_ago_counts_no_more() -> None:
    world = World()
    world.quarantine.blame(ask("lucky"))
    world.quarantine.clear(ask("lucky"))
    world.quarantine.blame(ask("lucky"))
    assert not world.refused("lucky")
    world.quarantine.blame(ask("lucky"))
    world.now += SECONDS - 1
    assert world.refused("lucky")
    world.now += 2
    assert not world.refused("lucky")
    world.quarantine.blame(ask("lucky"))
    assert not world.refused("lucky")


def test_what_is_remembered_is_bounded() -> None:
    world = World()
    for number in range(MOST + 10):
        world.quarantine.heard(str(number).encode())
    assert len(world.quarantine._blamed) == MOST


@pytest.mark.parametrize(("cause", "third"), [("crashed", 422), ("hung", 422), ("oom_killed", 422), ("killed", 500)])
async def test_two_deaths_with_it_in_flight_are_enough_unless_somebody_killed_them(cause: str, third: int) -> None:
    async with Harness() as server:
        statuses = []
        for generation in (1, 2, 3):
            worker = await server.attach(generation=generation)
            if generation == 3 and third == 422:
                statuses.append((await server.post()).status_code)
                assert worker.requests == []
                break
            task, _ = await begun(server, worker)
            server.lose(cause, generation=generation)
            statuses.append((await task).status_code)
        assert statuses == [500, 500, third]
        assert server.count(Blamed) == (2 if third == 422 else 0)


async def test_who_only_waits_is_not_blamed() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post()
        request = await worker.next()
        worker.send(Accepted(request.id, 7))
        server.lose("crashed")
        await server.heard(Want)
        worker = await server.attach(generation=2)
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200
        assert server.count(Blamed) == 0


async def test_the_other_proxies_know_it_too() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post()
        request = await worker.next()
        name = digest((request,))
        worker.reply(request, "ok")
        assert (await task).status_code == 200
        for _ in range(DEATHS):
            server.tell(Blamed("m", name))
        server.tell(Blamed("nobody", name))
        await until(lambda: server.proxy.services.result().models.gates["m"].quarantine._blamed.get(name, (0,))[0] == 2)
        assert (await server.post()).status_code == 422
