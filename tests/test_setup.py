"""The set-up's own code: what is shown while llama-cpp-python compiles."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "progress.py"


@pytest.fixture(scope="module")
def progress() -> ModuleType:
    spec = importlib.util.spec_from_file_location("progress", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([], "starting"),
        (["  Installing build dependencies: started"], "getting the build tools"),
        (["  Installing build dependencies: started", "  Installing collected packages: x"], "getting the build tools"),
        (["  *** Configuring CMake..."], "configuring"),
        (["  [12/193] /usr/bin/g++ -DX -c x.cpp"], "compiling 12/193 (6 %)"),
        (["  [ 12%] Building CXX object x.o"], "compiling 12 %"),
        (["  [193/193] : && /usr/bin/g++", "Installing collected packages: numpy"], "installing"),
        (["  [12/193] /usr/bin/g++", "  x.cpp:3:1: warning: [-Wunused]", "  [see 1/2]"], "compiling 12/193 (6 %)"),
    ],
)
def test_progress_follows_the_build(progress: ModuleType, lines: list[str], shown: str) -> None:
    state = progress.Progress()
    for line in lines:
        state.feed(line)
    assert str(state) == shown


def test_the_whole_log_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "a log"
    text = b"  [1/2] g++\n\xff\n  [2/2] g++ without an end"
    subprocess.run([sys.executable, SCRIPT, log], input=text, check=True, timeout=300)
    assert log.read_bytes() == text.replace(b"\xff", "�".encode())
