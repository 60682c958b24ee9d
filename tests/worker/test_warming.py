from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from worker import warming

_SIZE = 8 * 2**20


def cached(path: Path) -> int:
    """Pages of the file that are in the page cache."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        pages = (ctypes.c_ubyte * (len(mapped) // mmap.PAGESIZE))()
        view = ctypes.c_char.from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(len(mapped)), pages) == 0
        del view
        return sum(page & 1 for page in pages)


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    """A file that is on disk only."""
    path = tmp_path / "model.gguf"
    path.write_bytes(os.urandom(_SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if cached(path):
        pytest.skip("this file system keeps everything in memory")
    return path


def test_a_file_is_in_the_page_cache_afterwards(cold: Path) -> None:
    warming.begin(str(cold), lambda: False).join(90)
    assert cached(cold) == _SIZE // mmap.PAGESIZE


def test_memory_that_is_not_free_is_not_taken(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "free", lambda: _SIZE - 1)
    warming.begin(str(cold), lambda: False).join(90)
    assert cached(cold) == 0


def test_it_ends_when_the_load_begins(cold: Path) -> None:
    warming.begin(str(cold), lambda: True).join(90)
    assert cached(cold) == 0


def test_a_file_that_is_not_there_is_left_to_the_load(tmp_path: Path) -> None:
    warming.begin(str(tmp_path / "none.gguf"), lambda: False).join(90)
