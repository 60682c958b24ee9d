"""Types and unit tests of the pages, run beside the tests that need the browser: they take long, and have time."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.server import ROOT


class Check:
    """`.ci/ui check`, as a process that makes way for every other."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "check"
        with self._log.open("w") as log:
            command = ["nice", "-n", "19", ROOT / ".ci" / "ui", "check"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def result(self) -> tuple[int, str]:
        """The exit code, and what it said."""
        return self._process.wait(900), self._log.read_text()

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
