"""Scales of LoRA adapters that an operator sets while the server runs."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from supervisor.config import Adapter, Model
from supervisor.control import Answer, Drained, ModelChanged, ModelCommand, Want
from supervisor.scales import Scales
from tests.supervisor.test_fleet import World

BOTH = (Adapter(path="x"), Adapter(path="y", scale=0.5))
WORN = Model(name="a", path="m", lora=BOTH)


def test_those_that_were_set_hold_while_the_configuration_is_the_same() -> None:
    scales = Scales()
    assert scales.of(WORN) == (1.0, 0.5)
    scales.set(WORN, {1: 2.0})
    assert scales.of(WORN) == (0.0, 2.0)
    assert scales.applied(WORN).lora == (Adapter(path="x", scale=0.0), Adapter(path="y", scale=2.0))
    assert scales.of(replace(WORN, name="a#2"), "a") == (0.0, 2.0)
    assert scales.of(replace(WORN, lora=BOTH[:1])) == (1.0,)
    assert scales.of(Model(name="b")) == ()


def world() -> World:
    found = World()
    entries = dict(found.fleet.catalog)
    found.fleet.adopt(entries | {"a": replace(entries["a"], model=WORN)})
    return found


def scale(world: World, *said: tuple[int, float]) -> Any:
    world.say(ModelCommand(7, "scale", "a", True, {"lora": list(said)}))
    return world.last(Answer)


def test_the_worker_and_the_proxies_are_told() -> None:
    it = world()
    it.load("a")
    assert scale(it, (0, 0.25)) == Answer(7)
    assert it.workers.scales == [("a", (0.25, 0.0))]
    assert it.last(ModelChanged).status.lora == (0.25, 0.0)


def test_they_are_those_of_later_loads_too_and_nothing_is_loaded_for_them() -> None:
    it = world()
    assert scale(it, (1, 3.0)) == Answer(7)
    assert it.workers.loads == []
    it.say(Want("a"))
    assert it.workers.models[-1].adapters == (Adapter(path="x", scale=0.0), Adapter(path="y", scale=3.0))
    it.ready("a")
    it.say(ModelCommand(8, "unload", "a"))
    it.say(Drained("a", 1))
    it.ended("a")
    it.say(Want("a"))
    assert [each.scale for each in it.workers.models[-1].adapters] == [0.0, 3.0]


def test_other_adapters_are_as_they_are_configured() -> None:
    it = world()
    scale(it, (0, 0.25))
    other = replace(it.fleet.catalog["a"], model=replace(WORN, lora=(Adapter(path="z", scale=0.75),)))
    it.fleet.adopt(dict(it.fleet.catalog) | {"a": other})
    assert it.last(ModelChanged).status.lora == (0.75,)


def test_an_adapter_that_is_gone_is_refused() -> None:
    it = world()
    assert scale(it, (0, 1.0), (2, 1.0)) == Answer(7, "invalid_value", "[1].id: the model has no adapter 2")
    assert it.workers.scales == []
