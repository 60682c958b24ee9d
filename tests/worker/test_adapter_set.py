"""Sets of LoRA adapters: what they are called, and whose turn it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.config import Adapter
from worker.adapter_set import BARE, TURN, AdapterSet, Turns, configured, of, root

A: AdapterSet = ((0, 1.0),)
B: AdapterSet = ((1, 0.5),)


def test_a_scale_of_nothing_is_no_adapter() -> None:
    assert of([(1, 0.5), (0, 0.0)]) == B
    assert of([(1, 0.0), (0, -0.0)]) == of([]) == BARE
    assert configured([Adapter(path="a"), Adapter(path="b", scale=0.0)]) == A


def test_the_order_means_nothing_and_the_last_word_counts() -> None:
    assert of([(1, 2.0), (0, 1.0)]) == of([(0, 1.0), (1, 2.0)]) == ((0, 1.0), (1, 2.0))
    assert of([(0, 3.0), (0, 1.0)]) == A


def test_states_of_different_sets_have_different_names() -> None:
    sets = [BARE, A, B, ((0, 0.5),), ((1, 1.0),), ((0, 1.0), (1, 0.5))]
    assert len({root(each) for each in sets}) == len(sets)
    assert root(BARE) == b""


def test_alone_a_set_keeps_its_turn() -> None:
    turns = Turns()
    assert [turns.next([A, A], now) for now in (1.0, 2.0, 3.0)] == [A, A, A]


def test_sets_take_turns_of_a_length_and_a_step_at_least() -> None:
    turns, half = Turns(), TURN / 1.99
    assert [turns.next([A, B], 1.0 + half * step) for step in range(7)] == [A, A, B, B, A, A, B]
    assert [turns.next([A, B], 9.0 + 10 * step) for step in range(4)] == [A, B, A, B]


def test_who_has_gone_loses_the_turn_at_once() -> None:
    turns = Turns()
    assert turns.next([A, B], 1.0) == A
    assert turns.next([B, BARE], 1.0) == B
    assert turns.next([BARE], 1.0) == BARE


@given(st.lists(st.sets(st.sampled_from([BARE, A, B, ((2, 1.0),)]), min_size=1), min_size=1, max_size=60))
def test_nobody_waits_for_more_than_a_turn_of_each_other_set(steps: list[set[AdapterSet]]) -> None:
    turns = Turns()
    waiting: dict[AdapterSet, int] = {}
    for number, running in enumerate(steps):
        chosen = turns.next(sorted(running), 1.0 + number * TURN * 1.01)
        assert chosen in running
        waiting = {each: waiting.get(each, 0) + 1 for each in running if each != chosen}
        assert all(count <= 4 for count in waiting.values())
