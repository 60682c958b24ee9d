"""How long GET /health takes, again and again, while something else goes on.

A process of its own asks: whoever makes the noise is slow himself.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from types import TracebackType

from tests.e2e.server import PATIENCE, ROOT

_PAUSE = 0.02


class Lag:
    """`with Lag(port) as lag:`; afterwards `worst` has the seconds of the slowest answer, `asked` how many came."""

    def __init__(self, port: int) -> None:
        self._port, self.worst, self.asked = port, 0.0, 0

    def __enter__(self) -> Lag:
        command = [sys.executable, "-m", "tests.faults.lag", str(self._port)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n", "GET /health is not answered"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        told, wrong = self._process.communicate(timeout=2 * PATIENCE)
        if kind is None:
            assert self._process.returncode == 0, wrong[-500:]
            self.worst, self.asked = json.loads(told)


def main(port: int) -> None:
    """Until the standard input ends."""
    worst, asked, ended = 0.0, 0, False
    while not ended:
        began = time.monotonic()
        _ask(port)
        worst, asked = max(worst, time.monotonic() - began), asked + 1
        if asked == 1:
            print("begun", flush=True)
        ended = bool(select.select([sys.stdin], [], [], _PAUSE)[0])
    print(json.dumps([worst, asked]))


def _ask(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
    except (OSError, HTTPException) as error:
        raise AssertionError(f"GET /health: {error!r}") from None
    finally:
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
