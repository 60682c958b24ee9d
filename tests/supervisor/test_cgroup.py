"""Cgroups of workers, on a tree of files that looks like the kernel's; the kernel's own where it may be divided."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.cgroup import Cgroups


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of the cgroup that the server is in, with two processes of it."""
    folder = tmp_path / "cgroup" / "system.slice" / "llama.service"
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    (folder / "cgroup.subtree_control").write_text("")
    (folder / "cgroup.procs").write_text("10\n11\n")
    (tmp_path / "self").write_text("1:name=systemd:/x\n0::/system.slice/llama.service\n")
    return folder


def cgroups(own: Path) -> Cgroups:
    return Cgroups(own.parents[1], own.parents[2] / "self")


def test_nothing_changes_before_it_is_needed(own: Path) -> None:
    before = sorted(own.iterdir())
    cgroups(own)
    assert sorted(own.iterdir()) == before


def test_a_worker_gets_a_group_with_its_limit_and_all_others_one_below_the_own(own: Path) -> None:
    group = cgroups(own).confine(12, 2**30)
    assert group is not None
    assert (own / "server" / "cgroup.procs").read_text() == "11"  # the last that was written
    assert (own / "cgroup.subtree_control").read_text() == "+memory"
    assert (own / "worker-12" / "memory.max").read_text() == str(2**30)
    assert (own / "worker-12" / "cgroup.procs").read_text() == "12"


@pytest.mark.parametrize(("events", "killed"), [("oom 1\noom_kill 1\n", True), ("oom 0\noom_kill 0\n", False)])
def test_it_says_whether_the_kernel_has_killed_in_it(own: Path, events: str, killed: bool) -> None:
    group = cgroups(own).confine(12, 2**30)
    assert group is not None
    assert not group.killed()  # there is no such file yet
    (own / "worker-12" / "memory.events").write_text(events)
    assert group.killed() is killed


def test_its_own_group_is_none_where_memory_is_not_counted_or_it_is_not_ours(own: Path, tmp_path: Path) -> None:
    (own / "cgroup.controllers").write_text("cpu\n")
    assert cgroups(own).confine(12, 1) is None
    (tmp_path / "self").write_text("0::/\n")
    assert cgroups(own).confine(12, 1) is None
    (tmp_path / "self").write_text("4:memory:/x\n")
    assert cgroups(own).confine(12, 1) is None
    assert Cgroups(tmp_path, tmp_path / "no such file").confine(12, 1) is None


def test_a_folder_that_cannot_be_made_is_no_error(own: Path) -> None:
    (own / "server").write_text("not a folder")
    assert cgroups(own).confine(12, 1) is None
