"""Slots: which one a prompt takes, and what of it is in the cache already."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.sequences import Slots


def run(slots: Slots, prompt: list[int], *, keep: bool = True) -> tuple[int, int]:
    """A request that comes and goes; its slot and what was cached."""
    taken = slots.take(prompt)
    assert taken is not None
    slot, cached = taken
    slot.held = slot.size
    slots.release(slot, keep=keep)
    return slot.id, cached


def test_a_prompt_goes_where_its_beginning_is() -> None:
    slots = Slots(3, 100)
    homes = [run(slots, [first, 2, 3])[0] for first in (10, 20, 30)]
    assert len(set(homes)) == 3
    assert run(slots, [20, 2, 3, 4]) == (homes[1], 3)


def test_without_a_match_the_least_recently_used_goes() -> None:
    slots = Slots(2, 100)
    first, _ = run(slots, [1, 1])
    run(slots, [2, 2])
    assert run(slots, [3, 3]) == (first, 0)


def test_one_token_is_always_left_to_compute() -> None:
    slots = Slots(1, 100)
    run(slots, [1, 2, 3])
    assert run(slots, [1, 2, 3]) == (0, 2)


def test_busy_slots_are_not_given_twice() -> None:
    slots = Slots(2, 100)
    assert slots.take([1])[0] is not slots.take([1])[0]  # type: ignore[index]
    assert slots.take([1]) is None


def test_what_was_not_kept_is_not_reused() -> None:
    slots = Slots(1, 100)
    run(slots, [1, 2, 3], keep=False)
    assert run(slots, [1, 2, 3]) == (0, 0)


def test_a_request_that_ended_early_leaves_what_was_computed() -> None:
    slots = Slots(1, 100)
    slot, _ = slots.take([1, 2, 3, 4]) or (None, 0)
    assert slot is not None
    slot.held = 2
    slots.release(slot)
    assert run(slots, [1, 2, 3, 4]) == (0, 2)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=20))
def test_what_counts_as_cached_is_truly_there(prompts: list[list[int]]) -> None:
    slots = Slots(3, 20)
    cache: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for prompt in prompts:
        home, cached = run(slots, prompt)
        best = max(_common(tokens, prompt) for tokens in cache.values())
        assert cache[home][:cached] == prompt[:cached]
        assert cached == min(best, len(prompt) - 1)
        cache[home] = prompt


def _common(a: list[int], b: list[int]) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
