"""CPU turns: one at a time, and nobody waits for ever."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supervisor.config import Model
from tests import models
from worker.context import Context
from worker.embed.context import EmbedContext
from worker.main import Llama
from worker.seams import Load
from worker.turns import Turn, _State


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("turn")
    yield fd
    os.close(fd)


def turn(fd: int, patience: float = 90.0, crowd: int = 2) -> Turn:
    made = Turn(fd, patience)
    made.crowd = crowd
    return made


def waits(turn: Turn) -> list[float]:
    """How long the turn was willing to wait, each time that it waited; it grows."""
    found: list[float] = []
    answered = turn._waiter._answered
    wait_for = answered.wait_for

    def counted(fact: Callable[[], bool], timeout: float) -> bool:
        found.append(timeout)
        return wait_for(fact, timeout)

    answered.wait_for = counted  # type: ignore[method-assign,assignment]
    return found


def woken(turn: Turn) -> None:
    """Waits until the turn that came too late has been let go."""
    until = time.monotonic() + 90
    while turn._waiter._state is not _State.IDLE:
        assert time.monotonic() < until, "the late waiter never woke"
        time.sleep(0.001)


def test_two_workers_decode_one_after_the_other(fd: int) -> None:
    inside = most = 0

    def decode(turn: Turn) -> None:
        nonlocal inside, most
        for _ in range(50):
            with turn:
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=decode, args=(turn(fd),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_alone_nobody_asks(fd: int) -> None:
    with turn(fd), turn(fd, crowd=1):
        pass


def test_a_stopped_holder_costs_one_wait_and_no_more(fd: int) -> None:
    holder, waiter = turn(fd), turn(fd, patience=0.1)
    waited = waits(waiter)

    def wait() -> None:
        with waiter:
            assert not waiter._held

    with holder:
        for _ in range(20):
            wait()
        assert waited == [0.1]  # it is not waited for again
    woken(waiter)
    with holder:
        wait()
    assert waited == [0.1, 0.1]  # a new turn of its own is


def test_a_turn_that_comes_too_late_is_given_back(fd: int) -> None:
    holder, waiter, third = turn(fd), turn(fd, patience=0.05), turn(fd)
    with holder, waiter:
        pass
    woken(waiter)
    waited = waits(third)
    with third:
        assert third._held
    assert waited == []


def test_a_waiter_gets_the_turn_when_it_is_free(fd: int) -> None:
    holder, waiter = turn(fd), turn(fd)
    holder.__enter__()
    threading.Timer(0.1, holder.__exit__, (None, None, None)).start()
    with waiter:
        assert waiter._held
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)


def test_without_a_thread_to_wait_in_it_decodes_without_the_turn(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    holder, other = turn(fd), turn(fd)
    with holder, monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with other:
            assert not other._held
    with other:
        assert other._held


@pytest.mark.parametrize("embeds", [False, True])
def test_the_first_decodes_of_a_load_take_turns(fd: int, embeds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that begins does not disturb those that run."""
    held: list[bool] = []
    turns: list[Turn] = []
    of, name = (EmbedContext, "compute") if embeds else (Context, "decode")
    compute, made = getattr(of, name), Turn.__init__

    def noted(self: Turn, *given: int) -> None:
        made(self, *given)
        turns.append(self)

    def watched(self: Any) -> int:
        held.append(turns[0]._held)
        return int(compute(self))

    monkeypatch.setattr(Turn, "__init__", noted)
    monkeypatch.setattr(of, name, watched)
    kind = Llama()
    kind.prepare()
    kind.load(Load(Model(name="m", path=models.tiny(), task="embed" if embeds else "auto"), 1, fd), lambda _: True)
    assert len(held) == 4
    assert all(held)
    assert not turns[0]._held
