from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.control import State
from supervisor.placement import Plan, Resident, Wanted, plan

U, L, R, D, S = State.UNLOADED, State.LOADING, State.READY, State.DRAINING, State.STOPPING


def unloaded(name: str) -> Resident:
    return Resident(name, U, placeable=True)


def ready(name: str, last_used: float = 0.0, in_flight: int = 0, **more: bool) -> Resident:
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
    assert plan(models, [Wanted("d", 0)], 3, 10, 9.9) == Plan()


def test_after_max_wait_a_busy_model_is_closed_but_never_a_pinned_one() -> None:
    models = [ready("a", 2.0, in_flight=2), ready("b", 1.0, in_flight=1, pinned=True), unloaded("d")]
    assert plan(models, [Wanted("d", 0)], 2, 10, 10.0) == Plan(close=["a"])


def test_a_place_that_is_being_vacated_is_not_vacated_twice() -> None:
    models = [Resident("a", D, evicting=True), ready("b"), unloaded("c")]
    assert plan(models, [Wanted("c", 0)], 2, 10, 0) == Plan()


def test_first_come_first_served() -> None:
    models = [Resident("a", S), unloaded("b"), unloaded("c"), ready("x", in_flight=1)]
    assert plan(models, [Wanted("b", 0), Wanted("c", 1)], 2, 10, 1) == Plan()
    models[0] = unloaded("a")
    assert plan(models, [Wanted("b", 0), Wanted("c", 1)], 2, 10, 1) == Plan(load=["b"])


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
    assert plan(models, [Wanted("b", 0)], 1, 10, 0) == Plan()


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
)


@given(st.lists(residents, max_size=6, unique_by=lambda r: r.name), st.data(), st.integers(0, 4), st.floats(0, 50))
def test_no_plan_breaks_the_rules(models: list[Resident], data: st.DataObject, limit: int, now: float) -> None:
    idle = [m.name for m in models if m.state in (U, D, S, State.BACKOFF)]
    chosen = data.draw(st.permutations(idle).map(lambda all_: all_[: data.draw(st.integers(0, len(all_)))]))
    made = plan(models, [Wanted(name, 0.0) for name in chosen], limit, 10, now)
    by_name = {m.name: m for m in models}
    held = sum(m.state in (L, R, D, S) or m.stuck for m in models)
    assert limit == 0 or held + len(made.load) <= max(limit, held)
    assert all(by_name[name].placeable and name in chosen for name in made.load)
    assert all(by_name[n].state is R and not by_name[n].pinned and not by_name[n].in_flight for n in made.evict)
    assert all(by_name[n].state is R and not by_name[n].pinned and now >= 10 for n in made.close)
    assert len(made.evict) + len(made.close) <= len(chosen)
    assert all(by_name[n].evicting and by_name[n].state is D for n in made.reopen)
    if not chosen and (limit == 0 or held <= limit):
        assert {m.name for m in models if m.evicting and m.state is D} == set(made.reopen)
