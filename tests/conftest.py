"""What every test has: an environment fit for two cores, and a check that no process outlives the run."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Before anything loads OpenMP or ggml. Teams that spin stall each other; a crash that starts gdb takes a minute.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("GGML_NO_BACKTRACE", "1")
# A server is many processes, and each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Children are known by this mark in /proc/PID/environ, which a title set by setproctitle would otherwise overwrite.
MARK = "LSV_TEST_RUN"
os.environ[MARK] = str(os.getpid())
os.environ["SPT_NOENV"] = "1"

# What a server keeps must not be found by the next test run, nor be left in the home of whoever runs the tests.
_state = tempfile.TemporaryDirectory(prefix="lsv-state-")
os.environ["XDG_STATE_HOME"] = _state.name

# The same examples each time, however slow the machine; others are looked for with --hypothesis-profile=explore.
_steady = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("steady", deadline=None, derandomize=True, database=None, suppress_health_check=_steady)
settings.register_profile("explore", deadline=None, max_examples=5000, suppress_health_check=_steady)
settings.load_profile("steady")

GRACE = 30.0  # seconds; what nobody ends is there for ever


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Fails the run when one of its processes is still there at the end, in its tree or orphaned."""
    yield
    _, left = psutil.wait_procs(processes_of_this_run(), timeout=GRACE)
    lines = [describe(process) for process in left]
    for process in left:
        process.kill()
    assert not lines, "processes left behind:\n" + "\n".join(lines)


def processes_of_this_run() -> list[psutil.Process]:
    me = psutil.Process()
    found = set(me.children(recursive=True)) | {process for process in psutil.process_iter() if is_marked(process)}
    return [process for process in found - {me} if "resource_tracker" not in " ".join(command(process))]


def is_marked(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == os.environ[MARK]
    except psutil.Error:
        return False


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.status()} {' '.join(command(process)) or process.name()}"
    except psutil.NoSuchProcess:
        return f"{process.pid} gone"
