"""The pure deciders: costs and chunks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cost import Beside, CostCurve
from worker.scheduler import MIN_CHUNK, Limits, plan


def curve(**seconds: float) -> CostCurve:
    costs = CostCurve()
    for rows, cost in seconds.items():
        costs.add(int(rows[1:]), cost)
    return costs


LINEAR = curve(r1=0.02, r8=0.04, r64=0.3, r512=2.1)
LIMITS = Limits(n_batch=2048, n_ubatch=512, budget=0.25)


def test_between_measurements_costs_are_interpolated_and_beyond_extrapolated() -> None:
    costs = curve(r1=1.0, r8=8.0, r64=64.0)
    assert costs.predict(1) == 1.0
    assert costs.predict(36) == pytest.approx(36.0)
    assert costs.predict(640) == pytest.approx(640.0)


def test_costs_follow_what_is_measured_and_shrug_off_an_outlier() -> None:
    costs = curve(r1=1.0)
    costs.add(1, 100.0)
    assert costs.predict(1) == pytest.approx(1.6)
    for _ in range(50):
        costs.add(1, 3.0)
    assert costs.predict(1) == pytest.approx(3.0, rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 600), st.floats(0.001, 5)), min_size=1, max_size=20))
def test_more_rows_never_cost_less(measured: list[tuple[int, float]]) -> None:
    costs = CostCurve()
    for rows, seconds in measured:
        costs.add(rows, seconds)
    predicted = [costs.predict(rows) for rows in range(1, 700, 7)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(predicted))


FAST = curve(r1=0.01, r64=0.02, r512=0.4)


def test_nobody_decoding_gets_a_whole_ubatch() -> None:
    assert [chunk.rows for chunk in plan([2000], LIMITS, FAST, shared=False)] == [512]


def test_alone_on_slow_cores_a_step_still_ends_within_a_second() -> None:
    (chunk,) = plan([2000], LIMITS, LINEAR, shared=False)
    assert 64 < chunk.rows < 512
    assert LINEAR.predict(chunk.rows) <= 0.75


def test_beside_decoders_a_chunk_keeps_to_the_budget() -> None:
    (chunk,) = plan([2000], LIMITS, FAST, Beside(4), shared=False)
    assert MIN_CHUNK < chunk.rows < 512
    assert FAST.predict(4 + chunk.rows) <= LIMITS.budget


SLOW = curve(r1=0.02, r8=0.16, r16=0.32, r32=0.64, r64=1.28, r512=10.24)  # every row costs the same
FLAT = curve(r1=0.3, r8=0.31, r32=0.32, r64=0.35, r512=2.1)  # as on a GPU: few rows cost what many cost


def test_where_rows_cost_the_same_in_any_company_a_chunk_may_be_small() -> None:
    (chunk,) = plan([2000], LIMITS, SLOW, Beside(1), shared=False)
    assert chunk.rows == 16


def test_where_a_small_chunk_costs_what_a_large_one_costs_none_is_small() -> None:
    (chunk,) = plan([2000], LIMITS, FLAT, Beside(1), shared=False)
    assert chunk.rows == MIN_CHUNK


def test_shared_cores_keep_to_the_budget_too() -> None:
    (chunk,) = plan([2000], LIMITS, LINEAR, shared=True)
    assert chunk.rows <= MIN_CHUNK


def test_behind_a_long_context_chunks_are_smaller() -> None:
    costs = curve(r1=0.01, r64=0.16, r512=1.3)
    costs.add(64, 0.16 + 64 * 8000 * 1e-6, 64 * 8000)
    sizes = [plan([2000], LIMITS, costs, Beside(4, 400, depth), shared=False)[0].rows for depth in (0, 2000, 8000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] >= MIN_CHUNK > sizes[2]


def test_what_attention_costs_is_learnt_from_long_contexts_and_leaves_the_rest_alone() -> None:
    costs = curve(r1=0.01, r64=0.16)
    for _ in range(30):
        costs.add(64, 0.16 + 64 * 4000 * 1e-6, 64 * 4000)
    assert costs.predict(64) == pytest.approx(0.16)
    assert costs.predict(64, 64 * 8000) == pytest.approx(0.16 + 64 * 8000 * 1e-6, rel=0.01)


def test_the_first_prompt_takes_the_room_and_whole_ones_fill_it_up() -> None:
    chunks = plan([300, 400, 100], LIMITS, FAST, shared=False)
    assert [(chunk.index, chunk.rows) for chunk in chunks] == [(0, 300), (2, 100)]


@given(
    st.integers(0, 200), st.lists(st.integers(1, 3000), max_size=20), st.integers(32, 1024), st.floats(0, 1),
    st.booleans(),
)  # fmt: skip
def test_no_plan_exceeds_the_batch_or_starves_the_first(
    decoding: int, prefilling: list[int], n_ubatch: int, budget: float, shared: bool
) -> None:
    limits = Limits(max(n_ubatch, decoding + MIN_CHUNK), n_ubatch, budget)
    chunks = plan(prefilling, limits, LINEAR, Beside(decoding), shared=shared)
    assert decoding + sum(chunk.rows for chunk in chunks) <= limits.n_batch
    assert all(0 < chunk.rows <= prefilling[chunk.index] for chunk in chunks)
    assert len({chunk.index for chunk in chunks}) == len(chunks)
    assert not prefilling or chunks[0].index == 0
