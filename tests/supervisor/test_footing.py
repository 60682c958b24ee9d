"""A root that was started with less than a process has."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys

_SAY = """
import os, resource, sys
from supervisor import footing
opened = os.open("/dev/null", os.O_RDONLY) if "taken" in sys.argv else -1
footing.secure()
print([os.readlink(f"/proc/self/fd/{n}") for n in range(3)], resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print("complaint", file=sys.stderr)
"""


def run(*shell: str, limit: int = 512) -> str:
    command = ["sh", "-c", " ".join(shell), "sh", sys.executable, "-c", _SAY]

    def small() -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=small, check=True)
    return ended.stdout


def test_missing_standard_streams_become_the_null_device() -> None:
    for closed in ('exec "$@" 0<&- 2>&-', 'exec "$@" 2>&-'):
        first, _, third = ast.literal_eval(run(closed).rpartition(" ")[0])
        assert third == "/dev/null"
        assert first == "/dev/null" or "0<&-" not in closed


def test_it_may_open_as_many_files_as_it_is_allowed_to() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    assert run('exec "$@"').split()[-1] == str(wanted)
