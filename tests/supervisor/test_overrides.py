"""Settings of one load: how long they hold."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor import overrides
from supervisor.config import Model
from supervisor.control import Answer, Drained, Entry, LoadFailed, ModelCommand, State, Want
from supervisor.estimate import Estimate
from tests.supervisor.test_fleet import World, limited


def test_the_estimate_is_that_of_the_changed_settings_and_the_same_entry_while_nothing_changes() -> None:
    kept, entry = overrides.Overrides(), Entry(Model(name="a"), estimated={"ram": 5})
    assert kept.entry(entry, 0) is entry
    kept.ask("a", {"n_ctx": 7, "chat_template": "{{ messages }}"})
    changed = kept.entry(entry, 0)
    assert (changed.model.n_ctx, changed.model.chat_template, changed.estimated) == (7, "", {})
    assert kept.template("a") == "{{ messages }}"
    assert kept.entry(entry, 0) is changed
    assert kept.entry(entry, 1) is not changed


def ask(world: World, name: str = "a", **settings: Any) -> Any:
    world.say(ModelCommand(1, "load", name, True, settings))
    return world.last(Answer)


def test_they_hold_until_the_next_unload() -> None:
    world = World()
    assert ask(world, n_ctx=99) == Answer(1)
    assert world.workers.models[-1].n_ctx == 99
    world.ready("a")
    assert dict(world.fleet.statuses()[0].overrides) == {"n_ctx": 99}
    assert ask(world, n_ctx=99) == Answer(1, already=True)
    assert ask(world) == Answer(1, already=True)
    world.say(ModelCommand(2, "unload", "a"))
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.fleet.statuses()[0].overrides == {}
    world.say(Want("a"))
    assert world.workers.models[-1].n_ctx == Model().n_ctx


def test_a_model_that_is_loaded_otherwise_drains_and_is_loaded_again() -> None:
    world = World()
    world.load("a")
    assert ask(world, n_ctx=99) == Answer(1)
    assert (world.state("a"), world.fleet.model("a").stop_reason) == (State.DRAINING, "reload")
    world.say(Drained("a", 1))
    world.ended("a")
    assert (world.state("a"), world.workers.models[-1].n_ctx) == (State.LOADING, 99)


def test_a_load_under_way_is_begun_anew() -> None:
    world = World()
    world.say(Want("a"))
    ask(world, n_ctx=99)
    world.ended("a", -9)
    assert (world.state("a"), world.workers.models[-1].n_ctx) == (State.LOADING, 99)


def test_a_crash_is_no_unload() -> None:
    world = World()
    ask(world, n_ctx=99)
    world.ready("a")
    world.ended("a", -9)
    world.say(Want("a"))
    world.elapse(1.0)
    assert [model.n_ctx for model in world.workers.models] == [99, 99]


def test_a_load_that_fails_takes_them_along() -> None:
    world = World()
    ask(world, n_ctx=99)
    world.fleet.worker_refused("a", LoadFailed("file_corrupt", "no", permanent=True))
    world.ended("a", 78)
    assert world.state("a") is State.FAILED
    ask(world)
    assert world.workers.models[-1].n_ctx == Model().n_ctx


def test_a_load_that_is_called_off_takes_them_along() -> None:
    world = World()
    world.load("b")
    world.say(Want("b"))
    world.fleet.from_proxy(world.proxy, ModelCommand(1, "load", "p", True, {"n_ctx": 99}))  # type: ignore[arg-type]
    world.say(ModelCommand(2, "unload", "p"))
    assert world.fleet.stock.overrides.of("p") == {}


def test_a_load_that_can_never_fit_takes_them_along(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    limited(world, 100, a=50)
    monkeypatch.setattr("supervisor.overrides.estimate", lambda *settings: Estimate({"ram": 101}))
    ask(world, n_ctx=99)
    assert (world.state("a"), world.fleet.model("a").cause) == (State.FAILED, "insufficient_memory")
    assert world.fleet.stock.overrides.of("a") == {}
    ask(world)
    assert [model.n_ctx for model in world.workers.models] == [Model().n_ctx]
