from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from supervisor import process

ENTRY = "tests.children:"
PATIENCE = 90.0  # seconds: how quick a process is proves nothing


@pytest.fixture
def children() -> Iterator[list[process.Child]]:
    started: list[process.Child] = []
    yield started
    for child in started:
        child.signal(signal.SIGKILL)
        select.select([child.pidfd], [], [], PATIENCE)
        child.reap()
        child.close()


def gone(child: process.Child) -> bool:
    return bool(select.select([child.pidfd], [], [], PATIENCE)[0])


def heard(child: process.Child) -> bytes:
    assert select.select([child.channel], [], [], PATIENCE)[0], "no word from the child"
    return child.channel.sock.recv(100)


def until(fact: Callable[[], object]) -> bool:
    """Whether it comes true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := fact()) and time.monotonic() < deadline:
        select.select([], [], [], 0.01)
    return bool(found)


def test_a_child_runs_under_its_title_and_its_last_words_outlive_it(children: list[process.Child]) -> None:
    child = process.start(ENTRY + "idle", "w:user/model")
    children.append(child)
    assert until(child.log_tail)
    assert child.log_tail() == ("hello from w:user/model",)
    assert psutil.Process(child.pid).cmdline()[0] == "lsv:w:model"
    child.signal(signal.SIGKILL)
    assert gone(child)
    assert child.log_tail() == ("hello from w:user/model",)


def test_exit_codes_and_signals_are_told_apart() -> None:
    for role, expected in (("code:0", 0), ("code:78", 78)):
        child = process.start(ENTRY + "code", role)
        assert gone(child)
        assert child.reap() == expected
        child.close()
    child = process.start(ENTRY + "idle", "x")
    child.signal(signal.SIGSEGV)
    assert gone(child)
    assert child.reap() == -signal.SIGSEGV
    child.close()


@pytest.mark.parametrize("entry", ["idle", "deaf", "stopped"])
def test_losing_the_lifeline_kills_a_child_in_any_state(entry: str) -> None:
    child = process.start(ENTRY + entry, entry)
    if entry != "idle":
        heard(child)
    else:
        assert until(child.log_tail)
    os.close(child._lifeline)
    child._lifeline = os.open("/dev/null", os.O_RDONLY)
    assert gone(child)
    assert child.reap() == -signal.SIGKILL
    child.close()


def test_losing_the_lifeline_kills_a_child_that_has_not_come_to_its_first_line() -> None:
    child = process.start(ENTRY + "idle", "idle")
    child.signal(signal.SIGSTOP)
    os.close(child._lifeline)
    child._lifeline = os.open("/dev/null", os.O_RDONLY)
    ended = gone(child)
    child.signal(signal.SIGKILL)
    child.reap()
    child.close()
    assert ended


def test_a_stack_dump_is_written_with_the_gil_held(children: list[process.Child]) -> None:
    child = process.start(ENTRY + "deaf", "deaf")
    children.append(child)
    heard(child)
    child.signal(signal.SIGUSR1)
    assert until(lambda: "children.py" in child.stack_dump())
    assert "in deaf" in child.stack_dump()


def test_the_kernel_state_of_a_stopped_child_is_seen(children: list[process.Child]) -> None:
    child = process.start(ENTRY + "stopped", "stopped")
    children.append(child)
    heard(child)
    assert until(lambda: child.kernel_state() == "T")


ROOT = """
import os, signal, sys, time
from supervisor import process
if __name__ == "__main__":
    kids = [process.start("tests.children:" + name, name) for name in sys.argv[2:]]
    print(*[kid.pid for kid in kids], flush=True)
    time.sleep(float(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("after", [0.0, 0.03, 0.06, 0.1, 0.3])
def test_no_child_outlives_a_killed_root_at_any_moment_of_its_boot(after: float) -> None:
    names = ["idle", "deaf", "stopped", "slow_import"]
    command = [sys.executable, "-c", ROOT, str(after), *names]
    root = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert root.stdout
    pids = [int(word) for word in root.stdout.readline().split()]
    root.wait(PATIENCE)
    root.stdout.close()
    assert until(lambda: not any(map(alive, pids))), [pid for pid in pids if alive(pid)]


def test_the_second_lifeline_holds_where_the_first_is_kept_open_by_another() -> None:
    keeper = "import subprocess; kids.append(subprocess.Popen(['sleep', '999'], pass_fds=[kids[0]._lifeline])); print("
    command = [sys.executable, "-c", ROOT.replace("print(", keeper), "0.3", "deaf"]
    root = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert root.stdout
    child, sleeper = (int(word) for word in root.stdout.readline().split())
    root.wait(PATIENCE)
    root.stdout.close()
    ended = until(lambda: not alive(child))
    os.kill(sleeper, signal.SIGKILL)
    assert ended


@pytest.mark.parametrize(("writer", "parent"), [("w", "1"), ("-1", "os.getppid()")])
def test_a_child_whose_root_is_gone_before_the_lifelines_are_armed_ends_itself(writer: str, parent: str) -> None:
    """Here the root's end is closed, or its pid is not our parent's; no signal tells of either any more."""
    code = f"""
import os
from supervisor import boot
r, w = os.pipe()
if {writer} < 0:
    os.close(w)
boot._arm(r, {parent})
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 70


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_starting_children_leaks_no_descriptor() -> None:
    def cycle() -> int:
        child = process.start(ENTRY + "code", "code:0")
        gone(child)
        child.reap()
        child.close()
        return len(os.listdir("/proc/self/fd"))

    first = cycle()
    assert [cycle() for _ in range(3)] == [first] * 3


def test_what_a_child_is_started_with_is_small() -> None:
    """start() blocks for ever when the pickled arguments exceed the pipe and the child dies before reading."""
    sizes: list[int] = []
    real = os.write

    from multiprocessing import reduction

    original = reduction.dump

    def measuring(obj: object, file: object, protocol: object = None) -> None:
        original(obj, file, protocol)
        sizes.append(file.tell())  # type: ignore[attr-defined]

    reduction.dump = measuring
    try:
        child = process.start(ENTRY + "code", "code:0")
    finally:
        reduction.dump = original
    gone(child)
    child.reap()
    child.close()
    assert real is os.write
    assert 0 < sum(sizes) < 4096


def test_a_link_is_a_plain_connection() -> None:
    from multiprocessing.connection import Connection

    with process.link() as ends:
        left, right = (Connection(os.dup(fd)) for fd in ends)
    left.send_bytes(b"over")
    assert right.recv_bytes() == b"over"
    right.close()
    with pytest.raises((EOFError, ConnectionResetError)):
        left.recv_bytes()
    left.close()


def test_a_start_that_fails_says_so_and_leaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def no_memory(self: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", no_memory)
    with pytest.raises(process.StartFailed, match="cannot start w:x: Resource temporarily"):
        process.start(ENTRY + "idle", "w:x")
    assert len(os.listdir("/proc/self/fd")) == before
