"""Several workers of one model: their names, who speaks for it, and the fleet with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor import replicas
from supervisor.control import (
    Activity,
    Answer,
    Attach,
    Busy,
    Drain,
    Drained,
    Entry,
    KeepAlive,
    Listed,
    LoadFailed,
    Lost,
    ModelCommand,
    State,
    Unlisted,
    Unwant,
    Want,
)
from supervisor.lifecycle import Model
from supervisor.liveness import Verdict
from supervisor.replicas import Seen, one_more
from tests.supervisor.test_census import figures
from tests.supervisor.test_fleet import World

U, L, R, D, F = State.UNLOADED, State.LOADING, State.READY, State.DRAINING, State.FAILED


def replicated(max_models: int = 0, count: int = 3, **more: Any) -> World:
    """A world in which there may be `count` workers of a."""
    world = World(max_models, **more)
    entries = {name: Entry(entry.model) for name, entry in world.fleet.stock.entries.items()}
    entries["a"] = Entry(replace(entries["a"].model, replicas=count))
    world.fleet.adopt(entries)
    world.fleet.settle()
    return world


def queue(world: World, name: str, waiting: int, active: int = 100) -> None:
    """The worker says how many requests wait in it for a sequence, and how many have one."""
    world.workers.of[name] = SimpleNamespace(
        vitals=SimpleNamespace(ponged_at=world.now, last=SimpleNamespace(queued=waiting, active=active, progress=0.0)),
        child=SimpleNamespace(pid=None, log_tail=lambda: ()),
    )
    world.fleet.worker_progressed(name)
    world.fleet.settle()


def grown(world: World, *names: str) -> World:
    """These replicas are ready and idle, loaded one for the other's sake."""
    world.load("a")
    for before, name in zip(("a", *names), names, strict=False):
        queue(world, before, 2)
        world.ready(name)
        world.say(Activity(name, world.fleet.model(name).generation, 0))
        queue(world, before, 0)
    return world


def test_requests_that_have_just_come_to_free_sequences_load_no_replica() -> None:
    world = replicated()
    world.load("a")
    queue(world, "a", 1, active=0)
    queue(world, "a", 0, active=1)
    queue(world, "a", 1, active=1)
    assert world.state("a#2") is U
    queue(world, "a", 1, active=1)  # they do wait: the cells are taken
    assert world.state("a#2") is L


@pytest.mark.parametrize(
    ("states", "suspended", "speaks"),
    [
        ([U], "", 0),
        ([R, L], "", 0),
        ([R, R], "0", 1),  # one that is stopped serves nobody
        ([R, R], "01", 0),
        ([L, R], "", 1),
        ([F, L], "", 1),
        ([D, L], "", 1),
        ([U, D], "", 1),
        ([U, State.BACKOFF], "", 0),
        ([U, F], "", 0),  # a further one that has failed fails nobody
        ([F, U], "", 0),
    ],
)
def test_one_that_serves_speaks_for_the_model(states: list[State], suspended: str, speaks: int) -> None:
    models = [Model(replicas.named("m", number), state) for number, state in enumerate(states, 1)]
    stopped = {models[int(index)].name for index in suspended}
    assert replicas.front(models, stopped) is models[speaks]


def test_replicas_are_numbered_and_only_the_first_is_pinned_and_preloaded() -> None:
    model = World().fleet.stock.entries["p"].model
    found = replicas.expanded({"p": Entry(replace(model, replicas=3, preload=True))})
    assert [(name, entry.model.pin, entry.model.preload) for name, entry in found.items()] == [
        ("p", True, True), ("p#2", False, False), ("p#3", False, False),
    ]  # fmt: skip
    assert [(replicas.base(name), replicas.number(name)) for name in found] == [("p", 1), ("p", 2), ("p", 3)]


def test_one_more_is_needed_when_requests_wait_in_all_that_are_ready() -> None:
    waits, idle = Seen("m", R, True, False), Seen("m#2", R, False, False)
    third = Seen("m#3", U, False, True)
    assert one_more([waits, replace_seen(idle, crowded=True), third]) == "m#3"
    assert one_more([waits, idle, third]) == ""
    assert one_more([waits, replace_seen(idle, state=L), third]) == ""
    assert one_more([replace_seen(waits, state=U), third]) == ""
    assert one_more([waits, replace_seen(third, placeable=False)]) == ""


def replace_seen(seen: Seen, **changes: Any) -> Seen:
    fields = {"name": seen.name, "state": seen.state, "crowded": seen.crowded, "placeable": seen.placeable}
    return Seen(**{**fields, **changes})


def test_the_first_is_loaded_on_demand_and_the_next_when_requests_wait() -> None:
    world = replicated()
    world.load("a")
    assert world.workers.loads == ["a"]
    queue(world, "a", 2)
    assert world.workers.loads == ["a", "a#2"]
    queue(world, "a", 3)
    assert world.workers.loads == ["a", "a#2"]  # one at a time
    world.ready("a#2")
    assert world.last(Attach) == Attach("a#2", 1)
    assert world.workers.loads == ["a", "a#2"]  # it is idle
    queue(world, "a#2", 1)
    assert world.workers.loads == ["a", "a#2", "a#3"]


def test_a_model_of_one_worker_has_no_second() -> None:
    world = replicated()
    world.load("b")
    queue(world, "b", 5)
    assert world.workers.loads == ["b"]


def test_no_other_model_goes_for_a_further_replica_and_none_waits_behind_it() -> None:
    world = replicated(max_models=2)
    world.load("b")
    world.load("a")
    world.say(Activity("a", 1, 1))
    queue(world, "a", 4)
    assert world.workers.loads == ["b", "a"]
    assert world.last(Drain) is None
    world.say(Want("c"))
    assert world.last(Drain).model == "b"
    world.say(Drained("b", 1))
    world.ended("b")
    assert world.workers.loads == ["b", "a", "c"]


def test_a_further_replica_is_loaded_once_there_is_room() -> None:
    world = replicated(max_models=2)
    world.load("b")
    world.load("a")
    queue(world, "a", 4)
    world.say(ModelCommand(1, "unload", "b"))
    world.say(Drained("b", 1))
    world.ended("b")
    assert world.workers.loads == ["b", "a", "a#2"]


def test_a_busy_replica_goes_for_another_model_at_once_and_its_requests_end() -> None:
    world = grown(replicated(max_models=2), "a#2")
    for name in ("a", "a#2"):
        world.say(Activity(name, 1, 1))
    world.say(Want("b"))
    assert world.last(Drain) == Drain("a#2", 1, "evicted", if_idle=False, deadline=None)
    assert world.state("a") is State.READY
    world.say(Drained("a#2", 1))
    world.ended("a#2")
    assert world.workers.loads == ["a", "a#2", "b"]


def test_idle_replicas_go_before_a_model_that_was_used_longer_ago() -> None:
    world = replicated(max_models=3)
    world.load("b")
    world.elapse(5)
    grown(world, "a#2")
    world.say(Want("c"))
    assert world.last(Drain).model == "a#2"


def test_each_replica_idles_by_itself() -> None:
    world = grown(replicated(idle={"a": 30.0}), "a#2")
    world.elapse(20)
    world.say(Activity("a", 1, 1))
    world.say(Activity("a", 1, 0))
    world.elapse(11)
    assert (world.state("a"), world.state("a#2")) == (State.READY, State.DRAINING)
    assert world.last(Drain) == Drain("a#2", 1, "idle", if_idle=True)


def test_a_crash_of_one_replica_ends_its_streams_only_and_it_comes_back() -> None:
    world = grown(replicated(), "a#2")
    world.ended("a#2", -11)
    assert world.last(Lost) == Lost("a#2", 1, "crashed", "the worker crashed with SIGSEGV")
    assert (world.state("a"), world.state("a#2")) == (State.READY, State.BACKOFF)
    assert world.fleet.summary().startswith("1 of 4 models ready")
    (death,) = world.fleet.journal.deaths
    assert (death.model, death.role) == ("a", "w:a#2")
    world.elapse(0.6)
    assert world.workers.loads == ["a", "a#2", "a#2"]


def test_a_hang_is_one_replicas_own() -> None:
    world = grown(replicated(), "a#2")
    world.fleet.worker_judged("a", Verdict.HUNG, "no pong")
    world.fleet.settle()
    assert world.workers.stops == [("a", "hung")]
    assert world.state("a#2") is State.READY


def test_whoever_wants_a_model_of_which_one_serves_is_joined_to_that() -> None:
    world = grown(replicated(), "a#2")
    world.fleet.worker_judged("a", Verdict.HUNG, "no pong")
    world.ended("a", -9)
    world.proxy.heard.clear()
    world.fleet.stock.traffic.linked["a#2"].clear()
    world.say(Want("a"))
    assert world.last(Attach) == Attach("a#2", 1)


def test_who_waits_for_the_first_is_served_by_another_that_is_ready_before_it() -> None:
    world = grown(replicated(max_models=2), "a#2")
    world.ended("a#2", -9)
    world.ended("a", -9)
    world.say(Want("a"))
    world.elapse(0.6)
    assert world.workers.loads[2:] == ["a#2", "a"]
    world.ready("a#2")
    assert "a" not in world.fleet.stock.wants or not world.fleet.stock.wants.get("a").proxies  # type: ignore[union-attr]
    world.say(Unwant("a"))
    assert world.workers.stops == []


def test_a_failed_load_of_a_further_replica_fails_nobody() -> None:
    world = replicated()
    world.load("a")
    queue(world, "a", 1)
    world.fleet.worker_refused("a#2", LoadFailed("load_error", "no"))
    world.ended("a#2", 78)
    assert world.state("a#2") is State.FAILED
    world.say(Want("a"))
    assert world.workers.loads == ["a", "a#2", "a#3"]  # requests wait still
    assert world.fleet.summary().startswith("1 of 4 models ready")


def test_out_of_memory_of_a_further_replica_evicts_nobody() -> None:
    world = replicated(max_models=3)
    world.load("b")
    world.load("a")
    queue(world, "a", 1)
    world.fleet.worker_refused("a#2", LoadFailed("out_of_memory", "no", permanent=False))
    world.ended("a#2", 1)
    assert world.last(Drain) is None
    assert world.workers.loads == ["b", "a", "a#2", "a#2"]  # the one more try


def test_load_and_unload_are_about_the_model() -> None:
    world = grown(replicated(), "a#2")
    world.say(ModelCommand(1, "load", "a"))
    assert world.last(Answer) == Answer(1, already=True)
    world.say(ModelCommand(2, "unload", "a"))
    assert world.last(Answer) == Answer(2)
    assert (world.state("a"), world.state("a#2")) == (State.DRAINING, State.DRAINING)


def test_a_model_loaded_with_other_settings_stays_one() -> None:
    world = grown(replicated(), "a#2")
    world.say(ModelCommand(1, "load", "a", True, {"n_ctx": 512}))
    assert (world.state("a"), world.state("a#2")) == (State.DRAINING, State.DRAINING)
    for name in ("a", "a#2"):
        world.say(Drained(name, 1))
        world.ended(name)
    world.ready("a")
    queue(world, "a", 3)
    assert world.workers.loads == ["a", "a#2", "a"]


def test_a_reload_may_change_their_number_and_touches_those_that_stay_not_at_all() -> None:
    world = grown(replicated(), "a#2")
    world.proxy.heard.clear()
    entries = dict(world.fleet.catalog)
    entries["a"] = Entry(replace(entries["a"].model, replicas=1))
    world.fleet.adopt(entries)
    world.fleet.settle()
    assert (world.state("a"), world.state("a#2")) == (State.READY, State.DRAINING)
    assert [entry.model.name for entry in world.last(Listed).entries] == ["a"]
    world.say(Drained("a#2", 1))
    world.ended("a#2")
    assert world.last(Unlisted).model == "a#2"
    assert set(world.fleet.stock.models) == set("abcp")


def test_a_model_that_leaves_is_gone_after_its_replicas() -> None:
    world = grown(replicated(), "a#2")
    world.fleet.adopt({name: entry for name, entry in world.fleet.catalog.items() if name != "a"})
    world.fleet.settle()
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.last(Unlisted).model == "a#3"  # there never was one
    world.say(Drained("a#2", 1))
    world.ended("a#2")
    assert [m.model for m in world.proxy.heard if isinstance(m, Unlisted)] == ["a#3", "a#2", "a"]


def test_replicas_of_a_group_stand_beside_each_other_but_not_beside_another_model_of_it() -> None:
    world = replicated()
    entries = {name: Entry(replace(entry.model, group="g")) for name, entry in world.fleet.catalog.items()}
    world.fleet.adopt(entries)
    world.fleet.settle()
    grown(world, "a#2")
    assert world.state("a#2") is State.READY
    world.say(Want("b"))
    assert {world.state("a"), world.state("a#2")} == {State.DRAINING}


def test_a_clients_keep_alive_is_about_the_replica_that_serves_it() -> None:
    world = grown(replicated(), "a#2")
    world.say(KeepAlive("a#2", 1, 5.0))
    world.elapse(6)
    assert (world.state("a"), world.state("a#2")) == (State.READY, State.DRAINING)


def test_figures_are_the_models() -> None:
    world = grown(replicated(), "a#2")
    found = figures(world)
    assert found["model_state", "a", "ready"] == 1
    assert found["replicas", "a", "ready"] == 2
    assert found["replicas", "a", "unloaded"] == 1
    assert found["loads_total", "a", "ok"] == 2
    assert not [key for key in found if "#" in "".join(key)]


def test_a_stop_that_begins_while_a_busy_model_makes_room_ends_it_all_the_same() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    world.fleet.shut_down(30.0)
    world.say(Busy("a", 1))
    assert world.state("a") is State.DRAINING
    world.fleet.proxy_gone(world.proxy)  # type: ignore[arg-type]
    assert world.workers.stops == [("a", "polite")]


def test_an_unload_of_who_waits_for_room_keeps_the_one_that_was_to_go() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    world.say(ModelCommand(1, "unload", "b"))
    world.say(Drained("a", 1))
    assert (world.state("a"), world.workers.stops) == (State.READY, [])


def test_a_model_that_left_while_it_made_room_goes_though_nobody_needs_the_room() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    world.fleet.adopt({name: entry for name, entry in world.fleet.catalog.items() if name != "a"})
    world.say(Unwant("b"))
    assert world.state("a") is State.DRAINING
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.last(Unlisted).model == "a"
