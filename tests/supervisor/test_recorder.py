"""The flight recorder: what a process was at, read by somebody who trusts nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import recorder


@pytest.fixture
def fd() -> Iterator[int]:
    fd = recorder.create()
    yield fd
    os.close(fd)


def test_an_empty_one_says_nothing(fd: int) -> None:
    assert recorder.read(fd) == recorder.NOTHING


def test_phase_and_requests_are_there_in_order(fd: int) -> None:
    writer = recorder.Writer(fd)
    rows = [writer.begin(f"request-{number}") for number in range(3)]
    writer.end(rows[1])
    writer.phase("decode")
    found = recorder.read(fd)
    assert (found.phase, [row.id for row in found.requests]) == ("decode", ["request-0", "request-1", "request-2"])
    assert [row.ended is None for row in found.requests] == [True, False, True]
    assert found.since > 1e9


def test_choices_of_one_request_are_one(fd: int) -> None:
    writer = recorder.Writer(fd)
    for _ in range(4):
        writer.begin("same")
    assert [row.id for row in recorder.read(fd).requests] == ["same"]


def test_those_that_run_stay_and_of_the_others_the_last_do(fd: int) -> None:
    writer = recorder.Writer(fd)
    writer.begin("running")
    for number in range(3 * recorder.ROWS):
        writer.end(writer.begin(f"ended-{number}"))
    found = recorder.read(fd).requests
    assert len(found) == recorder.ROWS
    assert {row.id for row in found if row.ended is None} == {"running"}
    assert found[-1].id == f"ended-{3 * recorder.ROWS - 1}"


def test_more_than_it_has_rows_for_are_not_recorded_and_do_no_harm(fd: int) -> None:
    writer = recorder.Writer(fd)
    rows = [writer.begin(f"r{number}") for number in range(recorder.ROWS + 5)]
    assert rows[-5:] == [-1] * 5
    for row in rows:
        writer.end(row)
    assert writer.begin("after") >= 0


def test_a_process_without_one_records_nowhere() -> None:
    recorder.phase("decode")
    recorder.end(recorder.begin("x"))


def test_a_writer_cannot_change_its_size(fd: int) -> None:
    for size in (0, recorder.SIZE + 1):
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(fd, size)


@given(st.binary(max_size=recorder.SIZE), st.integers(0, recorder.SIZE - 1))
def test_whatever_stands_in_it_reads_as_ids_and_times(data: bytes, at: int) -> None:
    fd = recorder.create()
    try:
        os.pwrite(fd, data[: recorder.SIZE - at], at)
        found = recorder.read(fd)
    finally:
        os.close(fd)
    assert found.phase.isalpha() or not found.phase
    for row in found.requests:
        assert row.id.isascii()
        assert row.id.isprintable()
        assert 0 < row.began < 2**40
