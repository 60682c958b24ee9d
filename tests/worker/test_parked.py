"""The store of parked states, and its image."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker import park_image
from worker.park_image import ImageError
from worker.parked import SEGMENT, Bytes, Parked

PLENTY = 2**30


def ids(length: int, start: int = 0) -> Any:
    return np.arange(start, start + length, dtype=np.int32)


def park(parked: Parked, tokens: Any, size: int = 100) -> int:
    """Stores all of it; how many segments were not there yet."""
    absent = parked.absent(tokens)
    for segment in absent:
        parked.put(segment, Bytes(bytes([len(segment.tokens) % 251]) * size))
    return len(absent)


def reach(parked: Parked, tokens: Any) -> int:
    hits = parked.match(tokens)
    assert [hit.start for hit in hits] == [SEGMENT * place for place in range(len(hits))]
    return hits[-1].end if hits else 0


def test_states_of_another_set_of_adapters_are_others() -> None:
    parked, other = Parked(PLENTY), b"another root"
    park(parked, ids(300))
    assert parked.match(ids(300), other) == []
    for segment in parked.absent(ids(600), other):
        parked.put(segment, Bytes(b"other"))
    assert (reach(parked, ids(1000)), parked.match(ids(1000), other)[-1].end) == (300, 600)
    fresh, fd = Parked(PLENTY), os.memfd_create("image")
    assert park_image.write(fd, b"same", parked, PLENTY, time.monotonic() + 60) == 2 + 3
    park_image.read(fd, b"same", fresh)
    os.close(fd)
    assert (reach(fresh, ids(1000)), fresh.match(ids(1000), other)[-1].end) == (300, 600)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 700])
def test_all_that_was_parked_is_found(length: int) -> None:
    parked = Parked(PLENTY)
    assert park(parked, ids(length)) == -(-length // SEGMENT)
    assert reach(parked, ids(1000)) == length
    assert reach(parked, ids(100)) == min(100, length)
    assert reach(parked, ids(100, 5)) == 0


def test_a_common_beginning_is_stored_once() -> None:
    parked = Parked(PLENTY)
    shared = ids(600)
    park(parked, np.concatenate([shared, ids(100, 9000)]))
    assert park(parked, np.concatenate([shared, ids(100, 8000)])) == 1


def test_the_same_tokens_behind_others_are_another_segment() -> None:
    parked = Parked(PLENTY)
    park(parked, np.concatenate([ids(SEGMENT), ids(50, 7000)]))
    assert reach(parked, ids(50, 7000)) == 0


def test_a_whole_state_fits_as_a_whole_only() -> None:
    parked = Parked(PLENTY, exact=True)
    assert park(parked, ids(600)) == 1
    assert reach(parked, ids(599)) == 0
    assert reach(parked, ids(700)) == 600
    park(parked, ids(650))
    assert reach(parked, ids(700)) == 650


def test_the_budget_holds_and_the_least_recently_used_goes_first() -> None:
    parked = Parked(1000)
    for base in range(20):
        park(parked, ids(300, base * 10_000))
        assert parked.size <= 1000
        assert reach(parked, ids(300, 0)) == 300  # it is never the least recently used
        for hit in parked.match(ids(300, 0)):
            parked.read(hit.name)
    assert reach(parked, ids(300, 190_000)) == 300
    assert reach(parked, ids(300, 10_000)) == 0


def test_what_exceeds_the_budget_alone_is_not_stored() -> None:
    parked = Parked(50)
    park(parked, ids(10), size=51)
    assert (len(parked), parked.size) == (0, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 900)), max_size=30), st.integers(0, 1500))
def test_whatever_is_stored_and_dropped_the_books_balance(script: list[tuple[int, int]], budget: int) -> None:
    parked = Parked(budget)
    for family, length in script:
        park(parked, ids(length, family * 10_000))
        assert parked.size == sum(state.size for _, state in parked) <= budget
        names = set()
        for segment, _ in parked:  # parents before their children
            names.add(segment.name)
        for hit in parked.match(ids(1000, family * 10_000)):
            assert hit.name in names
            assert parked.read(hit.name) is not None


# -- the image ----------------------------------------------------------------------------------------------------


def image(parked: Parked, limit: int = PLENTY, until: float = 60.0) -> int:
    fd = os.memfd_create("image")
    park_image.write(fd, b"model", parked, limit, time.monotonic() + until)
    return fd


def test_an_image_has_all_of_it() -> None:
    parked = Parked(PLENTY)
    park(parked, ids(700))
    park(parked, ids(300, 5000))
    fd = image(parked)
    fresh = Parked(PLENTY)
    assert park_image.read(fd, b"model", fresh) == 5
    os.close(fd)  # the states are read later, and from the file nevertheless
    assert reach(fresh, ids(800)) == 700
    for (segment, state), (other, copy) in zip(parked, fresh, strict=True):
        assert segment.name == other.name
        assert copy.read() == state.read()


def test_a_limit_leaves_out_the_least_valuable_and_what_follows_it() -> None:
    parked = Parked(PLENTY)
    park(parked, ids(700))
    park(parked, ids(300, 5000))
    fd = image(parked, limit=250)
    fresh = Parked(PLENTY)
    assert park_image.read(fd, b"model", fresh) == 2
    os.close(fd)
    assert reach(fresh, ids(300, 5000)) == 300


def test_without_time_the_image_is_empty_but_whole() -> None:
    parked = Parked(PLENTY)
    park(parked, ids(700))
    fd = image(parked, until=-1.0)
    assert park_image.read(fd, b"model", Parked(PLENTY)) == 0
    os.close(fd)


@pytest.mark.parametrize("keep", [0, 5, 16, 40, 200, -1])
def test_an_image_that_is_cut_is_refused(keep: int) -> None:
    parked = Parked(PLENTY)
    park(parked, ids(700))
    fd = image(parked)
    size = os.fstat(fd).st_size
    os.ftruncate(fd, keep if keep >= 0 else size + keep)
    with pytest.raises(ImageError):
        park_image.read(fd, b"model", Parked(PLENTY))
    os.close(fd)


def test_an_image_of_another_model_is_refused() -> None:
    fd = image(Parked(PLENTY))
    with pytest.raises(ImageError, match="another"):
        park_image.read(fd, b"other", Parked(PLENTY))
    os.close(fd)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    fd = os.memfd_create("image")
    os.write(fd, b"LSVPARK1" + data if len(data) % 2 else data)
    with pytest.raises(ImageError):
        park_image.read(fd, b"model", Parked(PLENTY))
    os.close(fd)


def test_a_damaged_state_is_none_and_is_forgotten() -> None:
    parked = Parked(PLENTY)
    park(parked, ids(200))
    fd = image(parked)
    os.pwrite(fd, b"!", os.fstat(fd).st_size - 50)
    fresh = Parked(PLENTY)
    park_image.read(fd, b"model", fresh)
    os.close(fd)
    (hit,) = fresh.match(ids(200))
    assert fresh.read(hit.name) is None
    assert fresh.match(ids(200)) == []
    assert fresh.read(hit.name) is None
