"""The decisions of a worker that gives vectors: what a model is for, what goes into a batch, what a norm is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.config import Model
from worker.embed import packing
from worker.embed.task import Header, Task, decide
from worker.embed.vectors import finish
from worker.failure import LoadError

BERT, LLAMA = Header("bert", causal=False), Header("llama")


@pytest.mark.parametrize(
    ("header", "keys", "task"),
    [
        (LLAMA, {}, Task("generate")),
        (Header("llama", "none"), {}, Task("generate")),  # what converters write where nothing is said
        (Header("llama", "last"), {}, Task("embed", "last")),
        (Header("llama", "mean"), {}, Task("embed", "mean")),
        (Header("llama", "last"), {"task": "generate"}, Task("generate")),
        (LLAMA, {"task": "embed"}, Task("embed", "last")),
        (LLAMA, {"pooling": "mean"}, Task("embed", "mean")),
        (LLAMA, {"task": "embed", "pooling": "none"}, Task("embed", "none")),
        (Header("gemma3", causal=False), {}, Task("embed", "none")),
        (Header("llada", causal=False, diffusion=True), {}, Task("generate")),
        (BERT, {}, Task("embed", "none")),
        (Header("bert", "cls", causal=False), {}, Task("embed", "cls")),
        (Header("bert", "cls", causal=False), {"pooling": "mean"}, Task("embed", "mean")),
        (Header("bert", "rank", causal=False), {}, Task("rerank", "rank")),
        (Header("bert", "none", causal=False, labels=True), {}, Task("rerank", "rank")),
        (Header("bert", "rank", causal=False), {"task": "embed"}, Task("embed", "none")),
        (Header("qwen3", "rank", labels=True), {}, Task("rerank", "rank")),
        (Header("qwen3", "rank", labels=True), {"task": "embed"}, Task("embed", "last")),
        (LLAMA, {"pooling": "rank"}, Task("rerank", "rank")),
        (LLAMA, {"task": "rerank"}, Task("rerank", "rank")),
    ],
)
def test_the_configuration_wins_then_the_file(header: Header, keys: dict[str, Any], task: Task) -> None:
    assert decide(header, Model(**keys)) == task


@pytest.mark.parametrize(
    ("header", "keys", "words"),
    [
        (BERT, {"task": "generate"}, 'task = "embed"'),
        (LLAMA, {"task": "embed", "pooling": "rank"}, 'task = "rerank"'),
        (LLAMA, {"task": "rerank", "pooling": "mean"}, 'pooling = "rank"'),
        (Header("t5"), {}, "encoder-decoder"),
        (Header("eagle3"), {}, "draft"),
        (Header("llada", causal=False, diffusion=True), {"task": "embed"}, "diffusion"),
    ],
)
def test_what_cannot_be_is_refused_for_good(header: Header, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadError, match=words) as error:
        decide(header, Model(**keys))
    assert error.value.permanent


@example([2, 3, 1], 5, 8)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 50), st.integers(1, 8))
def test_a_batch_takes_the_first_inputs_as_many_as_fit(lengths: list[int], rows: int, ids: int) -> None:
    count = packing.count(lengths, rows, ids)
    assert count <= ids
    assert (count > 0) == bool(lengths)
    assert count == 1 or sum(lengths[:count]) <= rows
    full = count == min(ids, len(lengths))
    assert full or sum(lengths[: count + 1]) > rows, "one more would have fitted"


def test_a_large_vocabulary_bounds_the_rows_of_a_batch() -> None:
    assert packing.most_rows(2048, 512, 30_000, on_cpu=False) == 2048
    assert packing.most_rows(2048, 512, 250_000, on_cpu=False) == 536
    assert packing.most_rows(2048, 512, 2_000_000, on_cpu=False) == 512
    assert packing.most_rows(2048, 512, 30_000, on_cpu=True) == 512


ROWS = np.random.default_rng(5).standard_normal((3, 12)).astype(np.float32)


@pytest.mark.parametrize(
    ("mode", "divisor"),
    [
        (-1, np.ones(3)),
        (0, np.abs(ROWS).max(axis=1) / 32760),
        (1, np.abs(ROWS).sum(axis=1)),
        (2, np.linalg.norm(ROWS, axis=1)),
        (3, np.linalg.norm(ROWS, 3, axis=1)),
        (7, np.linalg.norm(ROWS, 7, axis=1)),
    ],
)
def test_each_norm_is_what_numpy_says(mode: int, divisor: Any) -> None:
    np.testing.assert_allclose(finish(ROWS, 0, mode), ROWS / divisor[:, None], rtol=1e-6)


def test_vectors_are_cut_first_and_normalised_then() -> None:
    found = finish(ROWS, 5, 2)
    assert found.shape == (3, 5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(found, ROWS[:, :5] / np.linalg.norm(ROWS[:, :5], axis=1)[:, None], rtol=1e-6)


@pytest.mark.parametrize("mode", [-1, 0, 1, 2, 9])
def test_a_vector_of_zeros_stays_one(mode: int) -> None:
    assert not finish(np.zeros((1, 4), np.float32), 0, mode).any()


def test_a_high_norm_of_large_numbers_does_not_overflow() -> None:
    found = finish(np.array([[3e30, -1e30]], np.float32), 0, 900)
    np.testing.assert_allclose(found, [[1.0, -1 / 3]], rtol=1e-6)


def test_numbers_are_little_endian_float32() -> None:
    assert finish(np.array([[1.0, -2.0]], np.float32), 0, -1).tobytes() == b"\0\0\x80?\0\0\0\xc0"
