"""Lanes: a conversation stays at its own, another one goes where nothing was said for longest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.lanes import Lanes


def ids(length: int, start: int = 100) -> Any:
    return np.arange(start, start + length, dtype=np.int32)


def say(lanes: Lanes, prompt: Any, reply: int = 5, wanted: int = -1) -> int:
    """A request that has the lane for itself; where it ran."""
    lane = lanes.take(prompt, wanted=wanted)
    lanes.leave(lane, np.concatenate([prompt, ids(reply, 9000)]))
    return lane


def test_each_conversation_gets_a_lane_of_its_own_and_keeps_it() -> None:
    lanes = Lanes(3)
    first, second = ids(50), ids(50, 500)
    assert [say(lanes, first), say(lanes, second)] == [0, 1]
    assert say(lanes, np.concatenate([first, ids(5, 9000), ids(7, 800)])) == 0
    assert say(lanes, second) == 1


def test_a_beginning_that_all_share_makes_no_conversation() -> None:
    lanes = Lanes(3)
    system = ids(400)
    prompts = [np.concatenate([system, ids(40, start)]) for start in (1000, 2000, 3000)]
    assert [say(lanes, prompt) for prompt in prompts] == [0, 1, 2]


def test_a_new_one_takes_the_lane_that_was_left_for_longest() -> None:
    lanes = Lanes(2)
    say(lanes, ids(50))
    say(lanes, ids(50, 500))
    say(lanes, ids(50))
    assert say(lanes, ids(50, 3000)) == 1


def test_the_wanted_lane_is_had_if_it_is_free() -> None:
    lanes = Lanes(3)
    assert say(lanes, ids(50), wanted=2) == 2
    assert say(lanes, ids(50), wanted=1) == 1
    assert lanes.take(ids(9), wanted=1) == 1
    assert lanes.take(ids(9), wanted=1) in (0, 2)


def test_replicas_number_on_so_a_lane_counts_from_each_ones_first() -> None:
    assert say(Lanes(4), ids(9), wanted=6) == 2


def test_who_leaves_nothing_leaves_what_was_there() -> None:
    lanes = Lanes(1)
    say(lanes, ids(50), reply=3)
    lanes.leave(lanes.take(ids(20, 700)), None)
    assert len(lanes.text(0)) == 53
    assert not lanes.taken(0)
    lanes.forget(0)
    assert len(lanes.text(0)) == 0


def test_more_than_there_are_cannot_run() -> None:
    lanes = Lanes(1)
    lanes.take(ids(3))
    assert lanes.full
    with pytest.raises(AssertionError, match="lanes"):
        lanes.take(ids(3))


def test_a_choice_that_got_its_prompt_from_its_leader_is_found_again_by_all_of_it() -> None:
    lanes = Lanes(2)
    lane = lanes.take(ids(0))
    lanes.leave(lane, ids(60))
    assert say(lanes, ids(20)) != lane
    assert say(lanes, ids(70)) == lane


def test_the_same_words_with_other_adapters_are_another_conversation() -> None:
    lanes, prompt = Lanes(2), ids(50)
    lane = lanes.take(prompt, ((0, 1.0),))
    lanes.leave(lane, prompt, ((0, 1.0),))
    assert lanes.adapters(lane) == ((0, 1.0),)
    assert say(lanes, prompt) != lane
    assert lanes.take(prompt, ((0, 1.0),)) == lane
