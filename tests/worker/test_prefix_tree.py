"""The prefix tree against a model that keeps one list of cells per sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.prefix_tree import PrefixTree

IDS = range(5)


def ids(*tokens: int) -> Any:
    return np.array(tokens, np.int32)


class Lists:
    """What llama.cpp's cells do, told naively: a cell is a number, a sequence is a list of (cell, token)."""

    def __init__(self) -> None:
        self.paths: dict[int, list[tuple[int, int]]] = {id: [] for id in IDS}
        self._made = 0

    def extend(self, id: int, tokens: list[int]) -> None:
        for token in tokens:
            self._made += 1
            self.paths[id].append((self._made, token))

    def fork(self, source: int, target: int, length: int) -> None:
        self.paths[target] = self.paths[source][:length]

    def truncate(self, id: int, length: int) -> None:
        del self.paths[id][length:]

    def tokens(self, id: int) -> list[int]:
        return [token for _, token in self.paths[id]]

    @property
    def cells(self) -> int:
        return len({cell for path in self.paths.values() for cell, _ in path})

    def own(self, id: int) -> int:
        others = {cell for other, path in self.paths.items() if other != id for cell, _ in path}
        return sum(cell not in others for cell, _ in self.paths[id])

    def match(self, prompt: list[int]) -> int:
        def common(tokens: list[int]) -> int:
            pairs = list(zip(tokens, prompt, strict=False))
            return next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))

        return max(common(self.tokens(id)) for id in IDS)


words = st.lists(st.integers(0, 2), min_size=1, max_size=6)
moves = st.one_of(
    st.tuples(st.just("extend"), st.sampled_from(IDS), words),
    st.tuples(st.just("fork"), st.sampled_from(IDS), st.sampled_from(IDS), st.integers(0, 12)),
    st.tuples(st.just("truncate"), st.sampled_from(IDS), st.integers(0, 12)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(moves, max_size=40), st.lists(st.integers(0, 2), max_size=14))
def test_the_tree_does_what_lists_of_cells_do(script: list[Any], prompt: list[int]) -> None:
    tree, lists = PrefixTree(), Lists()
    for name, id, *rest in script:
        if name == "fork":
            target, length = rest[0], min(rest[1], tree.length(id))
            if target == id or tree.length(target):
                continue
            rest = [target, length]
        getattr(lists, name)(id, *rest)
        getattr(tree, name)(id, *([ids(*rest[0])] if name == "extend" else rest))
        for each in IDS:
            assert tree.tokens(each).tolist() == lists.tokens(each)
            assert tree.length(each) == len(lists.paths[each])
            assert tree.own(each) == lists.own(each)
        assert tree.cells == lists.cells
    match = tree.match(ids(*prompt))
    assert match.length == lists.match(prompt)
    for part in tree.matches(ids(*prompt)):
        for id in tree.ending(part.run):
            assert part.run.end == len(lists.paths[id])
        for holder in part.run.holders:
            assert lists.tokens(holder)[: part.length] == prompt[: part.length]
    for holder in match.run.holders:
        assert lists.tokens(holder)[: match.length] == prompt[: match.length]


def test_a_shared_prefix_counts_once_and_outlives_those_who_leave() -> None:
    tree = PrefixTree()
    tree.extend(0, ids(*range(100)))
    tree.fork(0, 1, 60)
    tree.extend(1, ids(7, 8, 9))
    assert tree.cells == 103
    assert (tree.own(0), tree.own(1)) == (40, 3)
    tree.truncate(0, 0)
    assert tree.cells == 63
    assert tree.match(ids(*range(100))).length == 60


def test_what_one_set_of_adapters_computed_is_no_match_for_another() -> None:
    tree, other = PrefixTree(), ((0, 1.0),)
    tree.extend(0, ids(*range(10)))
    tree.extend(1, ids(*range(10)), other)
    tree.extend(1, ids(10, 11), other)
    tree.fork(1, 2, 5)
    assert [tree.match(ids(*range(20)), each).length for each in ((), other, ((0, 0.5),))] == [10, 12, 0]
    assert [tree.adapters(id) for id in (0, 1, 2, 3)] == [(), other, other, ()]
    assert (tree.cells, tree.own(1), tree.freed({1, 2})) == (22, 7, 12)
    tree.truncate(1, 0)
    assert (tree.cells, tree.match(ids(*range(20)), other).length) == (15, 5)
    tree.truncate(2, 0)
    assert (tree.cells, tree.match(ids(*range(20))).length, tree.match(ids(0), other).length) == (10, 10, 0)
    tree.extend(2, ids(0), ((1, 1.0),))
    assert tree.match(ids(0), ((1, 1.0),)).length == 1


def test_a_split_is_undone_when_the_other_leaves() -> None:
    tree = PrefixTree()
    tree.extend(0, ids(*range(10)))
    tree.fork(0, 1, 5)
    tree.truncate(1, 0)
    (run,) = tree.match(ids(0)).run.path
    assert run.size == 10


def checkpoint(tree: PrefixTree, length: int) -> Any:
    """The last one within the first tokens of range(…)."""
    found = [match.checkpoint for match in tree.matches(ids(*range(length)))]
    return max((each for each in found if each), default=None)


def test_a_checkpoint_is_found_within_the_match_and_goes_with_its_cells() -> None:
    tree = PrefixTree()
    tree.extend(0, ids(*range(8)))
    tree.mark(0, b"at 8")
    tree.extend(0, ids(*range(8, 16)))
    tree.mark(0, b"at 16")
    assert checkpoint(tree, 12) == (8, b"at 8")
    assert checkpoint(tree, 16) == (16, b"at 16")
    tree.fork(0, 1, 10)
    assert checkpoint(tree, 10) == (8, b"at 8")
    assert tree.last_checkpoint(0) == (8, b"at 8")  # before its end
    tree.truncate(0, 12)
    assert checkpoint(tree, 16) == (8, b"at 8")
    assert checkpoint(tree, 7) is None
