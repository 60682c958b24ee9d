"""Crash reports on disk: few, small, their owner's alone, and nothing else is ever read or removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor import crash, crash_files

AT = 1_800_000_000.0


def kept(state: Path) -> list[str]:
    return crash_files.ids(str(state))


def keep(state: Path, count: int, size: int = 10, most: int = 100, total: int = 10**6) -> list[str]:
    ids = [crash.name("w:m", AT + number) for number in range(count)]
    for id in ids:
        crash_files.keep(str(state), id, b"x" * size, most, total)
    return ids


def test_a_report_is_read_as_it_was_written_and_by_its_owner_only(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    (id,) = keep(tmp_path / "state", 1)
    assert crash_files.read(str(tmp_path / "state"), id) == b"x" * 10
    folder = tmp_path / "state" / "deaths"
    assert [folder.stat().st_mode & 0o777, (folder / f"{id}.json").stat().st_mode & 0o777] == [0o700, 0o600]


@pytest.mark.parametrize(("most", "total", "left"), [(3, 10**6, 3), (100, 45, 4), (1, 10**6, 1), (100, 5, 1)])
def test_the_oldest_go_first(tmp_path: Path, most: int, total: int, left: int) -> None:
    ids = keep(tmp_path, 6, most=most, total=total)
    assert kept(tmp_path) == ids[-left:]


def test_what_a_dead_writer_left_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    folder = tmp_path / "deaths"
    (folder / ".20260101T000000Z-m-0000.part").write_text("half")
    (folder / "mine.txt").write_text("mine")
    keep(tmp_path, 5, most=1)
    assert sorted(path.name for path in folder.iterdir())[1:] == ["mine.txt"]


@pytest.mark.parametrize(
    "id", ["../../etc/passwd", "..", "", "a/b", "20260101T000000Z-../../x-0000", "\0", "20260101T000000Z-m-0000\n"]
)
def test_an_id_is_no_path(tmp_path: Path, id: str) -> None:
    assert crash_files.read(str(tmp_path), id) is None


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    (tmp_path / "secret").write_text("secret")
    id = "20260101T000000Z-m-0000"
    (tmp_path / "deaths" / f"{id}.json").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        crash_files.read(str(tmp_path), id)


@pytest.mark.parametrize("role", ["w:user/repo:Q4_K_M", "w:../../x", "proxy-0", "w:" + "n" * 200, "w:...", "w:äö"])
def test_every_role_has_a_name_that_is_an_id(role: str) -> None:
    assert crash_files.ID.fullmatch(crash.name(role, AT))
