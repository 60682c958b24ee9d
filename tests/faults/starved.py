"""Long prompts on a machine with no time for them: slow is no hang. Row 9."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from tests import models
from tests.e2e.server import until
from tests.faults.endings import Ending, tidy
from tests.faults.scene import Scene, serve

SECONDS = 600.0
_BUSY = "while True: pass"
_CONTEXT = 8192  # what the model was trained with
_WORDS = 1350  # of six tokens at most
_SETTINGS = (
    f'[models.long]\npath = "{models.smollm()}"\nn_ctx = {_CONTEXT}\nparallel = 1\nthreads = 1\npreload = true\n'
)


def long_prompts(folder: Path, draw: random.Random) -> float:
    """With the limits that the server has by default. Returns the longest time that a prompt took, so far."""
    server, slowest = serve(folder, _SETTINGS), 0.0
    try:
        server.start()
        until(server.healthy)
        scene = Scene(server, draw)
        until(lambda: scene.state("long") == "ready")
        pid = scene.pid("w:long")
        for thread in psutil.Process(pid).threads():  # a process is one of them only
            os.setpriority(os.PRIO_PROCESS, thread.id, 19)
        with _burners():
            end = time.monotonic() + SECONDS
            while (left := end - time.monotonic()) > 0:
                words = " ".join(f"w{draw.randrange(10**5)}" for _ in range(draw.randint(800, _WORDS)))
                began = time.monotonic()
                with contextlib.suppress(httpx.ReadTimeout):  # a client with no more patience
                    answer = scene.post("/v1/completions", {"model": "long", "prompt": words, "max_tokens": 2}, left)
                    assert answer.status_code == 200, answer.text
                slowest = max(slowest, time.monotonic() - began)
            assert scene.pid("w:long") == pid, "it was killed"
            assert "judged role=w:long" not in server.log.read_text(), "it was taken for hung"
        return slowest
    finally:
        tidy(server)


@contextlib.contextmanager
def _burners() -> Iterator[None]:
    """Two for each core, before which the worker has to give way; whatever else runs here comes first."""
    burners = [
        subprocess.Popen([sys.executable, "-c", _BUSY], preexec_fn=lambda: os.nice(10))
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


ENDINGS = (Ending("9", "long prompts on a starved machine, for ten minutes", long_prompts, 1),)
