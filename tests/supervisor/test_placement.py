from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.control import State
from supervisor.placement import Plan, Resident, Wanted, crowded, plan, spare

U, L, R, D, S = State.UNLOADED, State.LOADING, State.READY, State.DRAINING, State.STOPPING


def unloaded(name: str) -> Resident:
    return Resident(name, U, placeable=True)


def ready(name: str, last_used: float = 0.0, in_flight: int = 0, **more: Any) -> Resident:
    return Resident(name, R, in_flight, last_used, **more)


def test_a_free_place_is_taken() -> None:
    assert plan([unloaded("a")], [Wanted("a", 0)], 1, 10, 0) == Plan(load=["a"])


def test_no_limit_loads_everything() -> None:
    models = [unloaded(name) for name in "abcde"]
    assert plan(models, [Wanted(name, 0) for name in "abcde"], 0, 10, 0).load == list("abcde")


def test_the_least_recently_used_idle_model_goes() -> None:
    models = [ready("a", 5.0), ready("b", 3.0), ready("c", 4.0, in_flight=1), unloaded("d")]
    assert plan(models, [Wanted("d", 0)], 3, 10, 0) == Plan(evict=["b"])


def test_busy_loading_and_pinned_models_stay() -> None:
    models = [ready("a", in_flight=2), Resident("b", L), ready("c", pinned=True), unloaded("d")]
    assert plan(models, [Wanted("d", 0)], 3, 10, 9.9) == Plan(blocked={"d": ["a", "b", "c"]})


def test_after_max_wait_a_busy_model_is_closed_but_never_a_pinned_one() -> None:
    models = [ready("a", 2.0, in_flight=2), ready("b", 1.0, in_flight=1, pinned=True), unloaded("d")]
    assert plan(models, [Wanted("d", 0)], 2, 10, 10.0) == Plan(close=["a"])


def test_a_place_that_is_being_vacated_is_not_vacated_twice() -> None:
    models = [Resident("a", D, evicting=True), ready("b"), unloaded("c")]
    assert plan(models, [Wanted("c", 0)], 2, 10, 0) == Plan()


def test_first_come_first_served() -> None:
    models = [Resident("a", S), unloaded("b"), unloaded("c"), ready("x", in_flight=1)]
    assert plan(models, [Wanted("b", 0), Wanted("c", 1)], 2, 10, 1) == Plan(blocked={"c": ["b", "x"]})
    models[0] = unloaded("a")
    assert plan(models, [Wanted("b", 0), Wanted("c", 1)], 2, 10, 1) == Plan(load=["b"], blocked={"c": ["b", "x"]})


def test_a_drain_that_nobody_needs_any_more_is_withdrawn() -> None:
    assert plan([Resident("a", D, evicting=True), unloaded("b")], [], 1, 10, 0) == Plan(reopen=["a"])
    assert plan([Resident("a", D), unloaded("b")], [], 1, 10, 0) == Plan()


def test_a_draining_model_that_is_wanted_again_waits_for_the_one_before_it() -> None:
    models = [Resident("a", D, evicting=True), unloaded("b")]
    assert plan(models, [Wanted("b", 0), Wanted("a", 1)], 1, 10, 1) == Plan()
    assert plan(models, [Wanted("a", 1)], 1, 10, 1) == Plan(reopen=["a"])


def test_a_model_in_back_off_holds_no_place_and_evicts_nobody() -> None:
    models = [Resident("a", State.BACKOFF), ready("x"), unloaded("b")]
    assert plan(models, [Wanted("a", 0)], 1, 10, 99) == Plan()
    assert plan(models, [Wanted("a", 0), Wanted("b", 1)], 2, 10, 1) == Plan(load=["b"])


def test_a_restart_evicts_nobody() -> None:
    assert plan([ready("x"), unloaded("b")], [Wanted("b", 0, evicts=False)], 1, 10, 99) == Plan()


def test_an_unkillable_process_keeps_its_place() -> None:
    models = [Resident("x", State.FAILED, stuck=True), unloaded("b")]
    assert plan(models, [Wanted("b", 0)], 1, 10, 0) == Plan(blocked={"b": ["x"]})


# -- memory, groups, priorities ------------------------------------------------------------------------------------


def sized(name: str, ram: int, gpu: int = 0, last_used: float = -1.0, **more: Any) -> Resident:
    """Ready and idle if it was used, else unloaded."""
    state = R if last_used >= 0 else U
    needs = {"ram": ram, **({"gpu:0": gpu} if gpu else {})}
    return Resident(name, state, last_used=max(0.0, last_used), placeable=state is U, needs=needs, **more)


BUDGETS = {"ram": 10, "gpu:0": 8}


def made(models: list[Resident], *wants: str, now: float = 0.0) -> Plan:
    return plan(models, [Wanted(name, 0) for name in wants], 0, 10, now, BUDGETS)


def test_memory_that_suffices_is_taken_and_no_more() -> None:
    models = [sized("a", 4), sized("b", 6), sized("c", 1)]
    assert made(models, "a", "b", "c") == Plan(load=["a", "b"], blocked={"c": ["a", "b"]})


def test_a_later_want_does_not_take_what_an_earlier_one_waits_for() -> None:
    models = [sized("busy", 5, last_used=1, in_flight=1), sized("big", 8), sized("small", 4)]
    assert made(models, "big", "small").load == []
    assert made(models, "small", "big").load == ["small"]


def test_as_many_idle_models_go_as_are_needed_and_those_least_recently_used() -> None:
    models = [sized("a", 3, last_used=1), sized("b", 3, last_used=2), sized("c", 3, last_used=3), sized("d", 6)]
    assert made(models, "d") == Plan(evict=["a", "b"])


def test_a_model_that_was_too_small_to_help_stays() -> None:
    models = [sized("small", 1, last_used=1), sized("large", 9, last_used=2), sized("d", 9)]
    assert made(models, "d") == Plan(evict=["large"])


def test_each_device_has_its_own_budget() -> None:
    models = [sized("gpu", 1, 8, last_used=2), sized("ram", 8, last_used=1), sized("d", 1, 4)]
    assert made(models, "d") == Plan(evict=["gpu"])


def test_nobody_goes_when_it_would_not_help() -> None:
    models = [sized("a", 3, last_used=1), sized("p", 5, last_used=1, pinned=True), sized("d", 8)]
    assert made(models, "d", now=99) == Plan(blocked={"d": ["a", "p"]})


def test_what_can_never_fit_is_refused_with_the_numbers_and_blocks_nobody() -> None:
    big = Resident("big", U, placeable=True, needs={"ram": 3 * 2**30})
    result = plan([big, sized("a", 4)], [Wanted("big", 0), Wanted("a", 1)], 0, 10, 0, {"ram": 2**30})
    assert result == Plan(load=["a"], refuse={"big": "it needs 3.00 GiB of ram, of which there are 1.00 GiB"})


def test_what_can_never_fit_is_refused_only_once_its_process_is_gone() -> None:
    leaving = Resident("big", S, needs={"ram": 3})
    assert plan([leaving], [Wanted("big", 0)], 0, 10, 0, {"ram": 1}) == Plan()


def test_of_a_group_one_is_in_memory() -> None:
    models = [sized("a", 1, last_used=1, group="g"), sized("b", 1, group="g"), sized("x", 1, last_used=0)]
    assert made(models, "b") == Plan(evict=["a"])
    models[0] = sized("a", 1, last_used=1, in_flight=1, group="g")
    assert made(models, "b") == Plan(blocked={"b": ["a", "x"]})
    assert made(models, "b", now=10) == Plan(close=["a"])


def test_the_less_important_goes_first_and_the_more_important_not_at_all() -> None:
    models = [sized("low", 5, last_used=9, priority=-1), sized("mid", 5, last_used=1), sized("d", 5)]
    assert made(models, "d") == Plan(evict=["low"])
    models = [sized("high", 10, last_used=1, priority=1), sized("d", 5)]
    assert made(models, "d", now=99) == Plan(blocked={"d": ["high"]})
    models[1] = sized("d", 5, priority=1)
    assert made(models, "d") == Plan(evict=["high"])


def test_one_that_was_loaded_just_now_stays() -> None:
    assert made([sized("a", 10, last_used=1, settling=True), sized("d", 5)], "d", now=99).evict == []


def test_room_that_is_being_vacated_is_waited_for() -> None:
    leaving = Resident("a", D, evicting=True, needs={"ram": 10})
    assert made([leaving, sized("d", 9), sized("idle", 1, last_used=1)], "d") == Plan()
    assert made([leaving, sized("idle", 1, last_used=1)]) == Plan()
    assert made([leaving]) == Plan(reopen=["a"])


# -- one that is stopping ------------------------------------------------------------------------------------------


def stopping(name: str, ram: int, **more: Any) -> Resident:
    return Resident(name, S, needs={"ram": ram} if ram else {}, **more)


def swapped(models: list[Resident], *wants: str, places: int = 1, budgets: dict[str, int] = BUDGETS) -> Plan:
    return plan(models, [Wanted(name, 0) for name in wants], places, 10, 0, budgets)


def test_a_load_begins_while_the_one_before_it_stops_if_there_is_memory_for_both() -> None:
    assert swapped([stopping("a", 5), sized("b", 5)], "b").load == ["b"]
    assert swapped([stopping("a", 6), sized("b", 5)], "b").load == []


def test_memory_that_nobody_knows_is_not_shared_with_one_that_stops() -> None:
    assert swapped([stopping("a", 0), sized("b", 5)], "b").load == []
    assert swapped([stopping("a", 5), sized("b", 0)], "b", budgets={}).load == []
    assert swapped([stopping("a", 5), sized("b", 1, gpu=1)], "b", budgets={"ram": 10}).load == []


def test_only_one_is_beside_those_that_have_places() -> None:
    models = [stopping("a", 1), stopping("b", 1), sized("c", 1), sized("d", 1)]
    assert swapped(models, "c", "d", places=2).load == ["c"]
    assert swapped([stopping("a", 1), *models[2:]], "c", "d").load == ["c"]
    assert swapped([stopping("a", 1), Resident("c", L, needs={"ram": 1}), models[3]], "d").load == []


def test_one_of_a_group_waits_for_the_other_to_be_gone() -> None:
    assert swapped([stopping("a", 1, group="g"), sized("b", 1, group="g")], "b").load == []


def test_a_drain_keeps_its_place_as_it_may_be_withdrawn() -> None:
    draining = Resident("a", D, evicting=True, needs={"ram": 1})
    assert swapped([draining, sized("b", 1)], "b").load == []


names = st.sampled_from("abcdef")
residents = st.builds(
    Resident,
    names,
    st.sampled_from(list(State)),
    st.integers(0, 2),
    st.floats(0, 100),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    needs=st.fixed_dictionaries({}, optional={"ram": st.integers(0, 6), "gpu:0": st.integers(0, 6)}),
    priority=st.integers(-1, 1),
    group=st.sampled_from(["", "", "g", "h"]),
    settling=st.booleans(),
    extra=st.booleans(),
).map(lambda r: replace(r, placeable=r.placeable and not r.stuck and r.state in (U, State.BACKOFF)))
budgets = st.fixed_dictionaries({}, optional={"ram": st.integers(0, 12), "gpu:0": st.integers(0, 12)})


@settings(deadline=None)
@given(
    st.lists(residents, max_size=6, unique_by=lambda r: r.name),
    st.data(),
    st.integers(0, 4),
    st.floats(0, 50),
    budgets,
)
def test_no_plan_breaks_the_rules(
    models: list[Resident], data: st.DataObject, limit: int, now: float, budget: dict[str, int]
) -> None:
    idle = [m.name for m in models if m.state in (U, D, S, State.BACKOFF)]
    chosen = data.draw(st.permutations(idle).map(lambda all_: all_[: data.draw(st.integers(0, len(all_)))]))
    result = plan(models, [Wanted(name, 0.0) for name in chosen], limit, 10, now, budget)
    spare = [Wanted(name, 0.0, evicts=False, extra=True) for name in chosen]
    alone = plan(models, spare, limit, 10, now, budget)
    assert alone == Plan(load=alone.load, reopen=alone.reopen)
    by_name = {m.name: m for m in models}
    before = [m for m in models if m.state in (L, R, D, S) or m.stuck]
    loads = [by_name[name] for name in result.load]
    most = limit + any(m.state is S and m.needs for m in before)  # one that stops yields its place
    assert limit == 0 or len(before) + len(loads) <= max(most, len(before))
    if loads:
        for device, most in budget.items():
            used = sum(m.needs.get(device, 0) for m in [*before, *loads])
            assert used <= max(most, sum(m.needs.get(device, 0) for m in before))
    for load in loads:
        assert not load.group or sum(m.group == load.group for m in [*before, *loads]) == 1
        assert load.placeable
        assert load.name in chosen
    important = max((by_name[name].priority for name in chosen), default=0)
    for victim in (by_name[name] for name in (*result.evict, *result.close)):
        assert victim.state is R
        assert not victim.pinned
        assert not victim.settling
        assert victim.priority <= important
    assert not any(by_name[name].in_flight for name in result.evict)
    assert not result.close or now >= 10
    assert all(by_name[name].evicting and by_name[name].state is D for name in result.reopen)
    listed = [*result.load, *result.evict, *result.close, *result.reopen, *result.refuse]
    assert len(listed) == len(set(listed))


@settings(deadline=None)
@given(st.lists(residents, max_size=6, unique_by=lambda r: r.name), st.data(), st.integers(0, 4), budgets)
def test_a_plan_that_was_carried_out_asks_for_nobody_else(
    models: list[Resident], data: st.DataObject, limit: int, budget: dict[str, int]
) -> None:
    """Victims that drain, and loads that have begun, make no further victim: the plan is stable."""
    wants = [Wanted(m.name, 0.0) for m in models if m.state is U and m.placeable]
    first = plan(models, wants, limit, 10, 0.0, budget)
    after = [_carried_out(m, first) for m in models]
    rest = [want for want in wants if want.name not in (*first.load, *first.refuse)]
    second = plan(after, rest, limit, 10, 0.0, budget)
    assert (second.load, second.evict, second.close) == ([], [], [])
    assert not set(second.reopen) & set(first.evict)


def _carried_out(model: Resident, done: Plan) -> Resident:
    if model.name in done.load:
        return replace(model, state=L, placeable=False)
    if model.name in done.evict:
        return replace(model, state=D, evicting=True)
    if model.name in done.reopen:
        return replace(model, state=R, evicting=False)
    return model


def test_who_goes_for_a_load_without_memory_is_the_idle_model_unused_for_longest() -> None:
    loading = Resident("new", L)
    models = [loading, ready("old", 1), ready("oldest", 0, in_flight=1), ready("newer", 2)]
    assert spare(models, "new", set()) == "old"
    assert spare(models, "new", {"old"}) == "newer"
    assert spare([loading, ready("pinned", pinned=True), ready("above", priority=1)], "new", set()) == ""


def test_a_model_whose_place_the_others_have_taken_is_crowded_out() -> None:
    models = [Resident("a", State.FAILED, stuck=True), ready("b"), Resident("c", L)]
    assert [crowded(models, "c", limit) for limit in (0, 2, 3)] == [False, True, False]


def test_a_further_replica_takes_free_room_after_everybody_else_and_waits_for_none() -> None:
    more = Wanted("a#2", 0, evicts=False, priority=0, extra=True)
    models = [ready("a", in_flight=4), Resident("a#2", U, placeable=True, model="a"), unloaded("b"), ready("c")]
    assert plan(models[:2], [more], 2, 10, 99) == Plan(load=["a#2"])
    assert plan(models[:3], [more, Wanted("b", 98)], 2, 10, 99) == Plan(load=["b"])
    assert plan([models[0], models[1], models[3]], [more], 2, 10, 99) == Plan()
    leaving = Resident("c", D, evicting=True)
    assert plan([*models[:2], leaving], [more], 2, 10, 99) == Plan(reopen=["c"])
    assert plan([*models[:2], Resident("c", S)], [more], 2, 10, 99) == Plan()


def test_a_busy_replica_that_can_be_spared_goes_at_once_but_after_idle_models() -> None:
    spared = ready("a#2", 9, in_flight=1, model="a", extra=True)
    models = [ready("a", in_flight=1, model="a"), spared, unloaded("b")]
    assert plan(models, [Wanted("b", 0)], 2, 10, 0) == Plan(close=["a#2"])
    assert plan([*models, ready("c", 99)], [Wanted("b", 0)], 3, 10, 0) == Plan(evict=["c"])
    assert plan([*models[:2], ready("c"), unloaded("b")], [Wanted("b", 0)], 3, 10, 0) == Plan(evict=["c"])


def test_an_idle_replica_that_can_be_spared_goes_before_any_model() -> None:
    models = [ready("a", 2, model="a"), ready("a#2", 9, model="a", extra=True), ready("c", 1), unloaded("b")]
    assert plan(models, [Wanted("b", 0)], 3, 10, 0) == Plan(evict=["a#2"])


def test_a_further_replica_leaves_the_memory_alone_that_another_waits_for() -> None:
    more, budget = Wanted("a#2", 0, evicts=False, extra=True), {"ram": 100}
    models = [
        ready("a", needs={"ram": 30}, model="a"),
        Resident("a#2", U, placeable=True, model="a", needs={"ram": 30}),
        Resident("c", D, evicting=True, needs={"ram": 40}),
        replace(unloaded("b"), needs={"ram": 60}),
    ]
    assert plan(models, [more, Wanted("b", 0)], 0, 10, 0, budget) == Plan()
