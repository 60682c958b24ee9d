"""The fleet's own figures: loads, evictions, restarts, and the state of each model."""

from __future__ import annotations

from supervisor import census
from supervisor.control import Drained, Facts, State, Unwant, Want
from supervisor.lifecycle import Model
from tests.supervisor.test_fleet import World


def figures(world: World) -> dict[tuple[str, ...], float]:
    found = world.fleet.figures()
    return {(each.name.removeprefix("llama_supervisor_"), *each.labels): each.values[0] for each in found}


def test_loads_evictions_and_restarts_are_counted() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    world.say(Drained("a", 1))
    world.ended("a")
    world.ready("b")
    world.ended("b", -11)
    found = figures(world)
    assert found["loads_total", "a", "ok"] == found["loads_total", "b", "ok"] == 1
    assert found["evictions_total", "a", "evicted"] == 1
    assert found["restarts_total", "b", "crashed"] == 1
    assert ("evictions_total", "b", "evicted") not in found


def test_a_load_that_fails_is_counted_by_its_cause() -> None:
    world = World()
    world.say(Want("a"))
    world.ended("a", 1)
    causes = {key[2]: count for key, count in figures(world).items() if key[0] == "loads_total"}
    assert list(causes.values()) == [1]
    assert "ok" not in causes


def test_a_drain_that_is_withdrawn_evicts_nobody() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    assert world.state("a") is State.DRAINING
    world.say(Unwant("b"))
    assert world.state("a") is State.READY
    assert not [key for key in figures(world) if key[0] == "evictions_total"]


def test_each_model_has_exactly_one_state_and_a_load_its_time() -> None:
    world = World(max_models=2)
    world.say(Want("a"))
    world.now += 0.2
    world.fleet.worker_ready("a", Facts())
    found = figures(world)
    assert found["model_state", "a", "ready"] == 1
    for name in "abcp":
        assert sum(found["model_state", name, state] for state in State) == 1
    (load,) = [each for each in world.fleet.figures() if each.name.endswith("load_seconds")]
    assert load.values[-1] - 0.2 < 1e-6


def test_memory_is_told_by_device_with_what_there_is() -> None:
    models = [Model("a", State.READY), Model("a#2", State.LOADING), Model("b", State.UNLOADED)]
    found = census.memory(models, lambda name: {"ram": 60, "gpu:0": 5}, {"ram": 200})
    assert {(each.name.removeprefix("llama_supervisor_memory_"), *each.labels): each.values[0] for each in found} == {
        ("budget_bytes", "ram"): 200,
        ("placed_bytes", "a", "ram"): 120,
        ("placed_bytes", "a", "gpu:0"): 10,
    }
