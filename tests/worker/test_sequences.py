"""The pool of sequences against a cache that is told naively: a list of cells per sequence, so many cells in all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.sequences import NOWHERE, Place, Pool, Sequence

CELLS, IDS, N_CTX = 40, 6, 24


class Cache:
    """What llama.cpp does: sequences are lists of cell numbers, and there are only so many cells."""

    def __init__(self, *, exact: bool = False) -> None:
        self.paths: dict[int, list[int]] = {id: [] for id in range(IDS)}
        self._exact, self._made = exact, 0

    def usable(self, id: int, length: int) -> bool:
        return not self._exact

    def copy(self, source: int, target: int, length: int) -> None:
        assert not self.paths[target]
        if self._exact:  # a state goes along as it is: only a checkpoint makes it fit a shorter length
            assert length <= len(self.paths[source])
        self.paths[target] = self.paths[source][:length]

    def cut(self, id: int, length: int) -> None:
        del self.paths[id][length:]

    def restore(self, id: int, state: Any, length: int) -> None:
        assert int(bytes(state).decode()) == length, "a checkpoint of another length"

    def compute(self, sequence: Sequence, rows: int) -> None:
        for _ in range(rows):
            self._made += 1
            self.paths[sequence.id].append(self._made)
        assert self.cells <= CELLS, "llama_decode would find no room"

    @property
    def cells(self) -> int:
        return len({cell for path in self.paths.values() for cell in path})


def ids(*tokens: int) -> Any:
    return np.array(tokens, np.int32)


def make(*, exact: bool = False) -> tuple[Pool, Cache]:
    cache = Cache(exact=exact)
    return Pool(cache, IDS, CELLS, N_CTX), cache


def run(pool: Pool, cache: Cache, tokens: Any, spare: int = 0) -> Sequence:
    """A request that has computed its prompt."""
    place = pool.find(tokens, spare)
    assert place is not None
    sequence = pool.open(place, tokens)
    cache.compute(sequence, sequence.missing)
    pool.commit(sequence, sequence.missing)
    return sequence


prompts = st.lists(st.integers(0, 1), min_size=1, max_size=16)
moves = st.one_of(
    st.tuples(st.just("begin"), prompts, st.booleans()),
    st.tuples(st.just("compute"), st.integers(0, 5), st.integers(1, 6)),
    st.tuples(st.just("sample"), st.integers(0, 5), st.integers(0, 1)),
    st.tuples(st.just("end"), st.integers(0, 5), st.booleans()),
)


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.lists(moves, max_size=60))
def test_the_ledger_is_the_cache_whatever_happens(exact: bool, script: list[Any]) -> None:
    pool, cache = make(exact=exact)
    running: list[Sequence] = []
    for move, what, value in script:
        if move == "begin":
            tokens = ids(*what)
            promised = sum(sequence.missing for sequence in running)
            place = pool.find(tokens, promised, reuse=value)
            if place is None:
                assert running, "what fits alone must be let in when nobody runs"
                continue
            sequence = pool.open(place, tokens)
            assert sequence.missing >= 1
            running.append(sequence)
        elif running:
            sequence = running[what % len(running)]
            if move == "compute" and (rows := min(value, sequence.missing)):
                if not pool.make_room(rows):
                    continue
                cache.compute(sequence, rows)
                pool.commit(sequence, rows)
                if exact and not sequence.missing:
                    pool.mark(sequence, str(sequence.held).encode())
            elif move == "sample" and not sequence.missing and sequence.size < N_CTX:
                sequence.append(value)
            elif move == "end":
                running.remove(sequence)
                pool.close(sequence, keep=value)
        assert cache.cells == pool.tree.cells <= CELLS
        assert {id: len(path) for id, path in cache.paths.items()} == {id: pool.tree.length(id) for id in range(IDS)}
        for sequence in running:
            assert pool.tree.tokens(sequence.id).tolist() == sequence.tokens[: sequence.held].tolist()
    for sequence in running:
        pool.close(sequence)
    pool.evict_all()
    assert (cache.cells, pool.room, len(pool.kept)) == (0, CELLS, 0)


def test_a_kept_sequence_is_taken_over_by_its_continuation() -> None:
    pool, cache = make()
    first = run(pool, cache, ids(*range(10)))
    id = first.id
    pool.close(first)
    place = pool.find(ids(*range(12)), 0)
    assert place is not None
    assert (place.source, place.length, place.takes) == (id, 10, True)


def test_at_least_one_token_is_left_to_compute() -> None:
    pool, cache = make()
    pool.close(run(pool, cache, ids(*range(10))))
    place = pool.find(ids(*range(10)), 0)
    assert place is not None
    assert place.length == 9


def test_a_running_prefix_is_shared() -> None:
    pool, cache = make()
    run(pool, cache, ids(*range(10)))
    other = run(pool, cache, ids(0, 1, 2, 3, 4, 5, 99))
    assert other.held == 7
    assert cache.cells == 11


def test_a_long_tail_is_kept_if_there_is_room_and_cut_if_not() -> None:
    cache = Cache()
    pool = Pool(cache, IDS, 100, 100)
    pool.close(run(pool, cache, ids(*range(40))))
    share = pool.find(ids(1, 2, 3), 0)
    assert share is not None
    branch = ids(0, 1, 2, 3, 99)
    place = pool.find(branch, 0)
    assert place is not None
    assert (place.takes, place.length) == (False, 4)
    tight = pool.find(branch, 61)
    assert tight is not None
    assert (tight.takes, tight.length) == (True, 4)


def test_the_least_recently_used_goes_first_and_only_as_many_as_must() -> None:
    pool, cache = make()
    for base in (100, 200, 300):
        pool.close(run(pool, cache, ids(*range(base, base + 12))))
    gone: list[int] = []
    pool.evicted = lambda id: gone.append(int(pool.tree.tokens(id)[0]))
    run(pool, cache, ids(*range(400, 410)))
    assert gone == [100]
    assert pool.make_room(18)
    assert gone == [100, 200]


def test_a_shared_beginning_outlives_its_first_holder() -> None:
    pool, cache = make()
    first = run(pool, cache, ids(*range(10)))
    second = run(pool, cache, ids(0, 1, 2, 3, 4, 50, 51))
    pool.close(first)
    pool.close(second)
    pool.evict(pool.kept[0])
    place = pool.find(ids(*range(10)), 0)
    assert place is not None
    assert place.length == 5


def test_no_room_is_said_and_nothing_is_lost() -> None:
    pool, cache = make()
    run(pool, cache, ids(*range(20)))
    kept = run(pool, cache, ids(*range(100, 110)))
    pool.close(kept)
    assert pool.find(ids(*range(200, 215)), 10) is None
    assert len(pool.kept) == 1


def test_without_reuse_nothing_is_shared() -> None:
    pool, cache = make()
    pool.close(run(pool, cache, ids(*range(10))))
    assert pool.find(ids(*range(12)), 0, reuse=False) == Place(-1, 0, takes=False, match=10)
    assert NOWHERE.length == 0


@pytest.mark.parametrize(("prompt", "length"), [(range(14), 10), (range(10), 6), (range(8), 6), (range(5), 0)])
def test_a_state_that_cannot_be_cut_is_used_at_its_end_or_at_a_checkpoint(prompt: range, length: int) -> None:
    pool, cache = make(exact=True)
    place = pool.find(ids(*range(10)), 0)
    assert place is not None
    sequence = pool.open(place, ids(*range(10)))
    for rows in (6, 4):
        cache.compute(sequence, rows)
        pool.commit(sequence, rows)
        if rows == 6:
            pool.mark(sequence, b"6")
    pool.close(sequence)
    found = pool.find(ids(*prompt), 0)
    assert found is not None
    assert found.length == length
    assert pool.open(found, ids(*prompt)).held == length
