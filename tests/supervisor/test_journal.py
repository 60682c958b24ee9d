"""What the root tells is numbered, and deaths are told before what becomes of the model."""

from __future__ import annotations

import pytest

from supervisor import journal
from supervisor.control import Death, Died, Drained, ModelChanged, ModelCommand, State, Want
from supervisor.journal import Journal
from supervisor.nursery import Ended
from tests.supervisor.test_fleet import World


def told(world: World, proxy: int = 0) -> list[ModelChanged | Died]:
    return [message for message in world.proxies.running[proxy].heard if isinstance(message, ModelChanged | Died)]


def test_all_proxies_hear_the_same_numbers_in_the_same_order() -> None:
    world = World(proxies=2)
    world.load("a")
    world.ended("a", -11)
    assert [message.number for message in told(world)] == list(range(1, len(told(world)) + 1))
    assert told(world, 0) == told(world, 1)
    assert world.fleet.journal.number == told(world)[-1].number


def test_a_death_is_told_before_the_state_it_leads_to() -> None:
    world = World()
    world.load("a")
    world.ended("a", -11)
    died = next(message for message in told(world) if isinstance(message, Died))
    after = told(world)[told(world).index(died) + 1]
    assert isinstance(after, ModelChanged)
    assert after.status.state is State.BACKOFF
    death = died.death
    assert (death.model, death.exit_code, death.signal, death.cause) == ("a", -11, "SIGSEGV", "crashed")
    assert (death.generation, death.log_tail, death.action) == (1, ("last words",), "restart")
    assert death.retry_in_s == pytest.approx(0.5)
    assert world.fleet.journal.deaths == (death,)


def test_an_end_that_was_asked_for_is_no_death() -> None:
    world = World()
    world.load("a")
    world.say(ModelCommand(1, "unload", "a"))
    world.say(Drained("a", 1))
    world.ended("a", 0)
    world.say(Want("a"))
    world.say(ModelCommand(2, "unload", "a"))
    world.ended("a", -9)
    assert world.state("a") is State.UNLOADED
    assert not any(isinstance(message, Died) for message in told(world))


def test_the_last_ten_of_each_are_kept() -> None:
    kept = Journal()
    for number in range(25):
        kept.died(Death("w:a", number, "crashed", "", 1, model="a" if number % 2 else "b"))
    assert [death.at for death in kept.deaths] == list(range(5, 25))


def test_a_proxys_end_says_what_ended_it() -> None:
    killed = journal.of_proxy("proxy-0", Ended(-9, (), ""), 1.0)
    assert (killed.cause, killed.signal, killed.model) == ("killed", "SIGKILL", "")
    assert journal.of_proxy("proxy-0", Ended(1, (), ""), 1.0).cause == "exited"
