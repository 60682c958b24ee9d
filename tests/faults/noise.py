"""A worker that shouts, and a stderr that takes nothing. Row 36."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from pathlib import Path

from tests.e2e.server import text_of, until
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending, tidy
from tests.faults.history import violations
from tests.faults.rows import WORDS
from tests.faults.scene import MODELS, RECOVERY, Scene, serve

_SECONDS = 3


class _Pipe:
    """A stderr; `taken` counts what was read of it."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        self.taken, self.reads = 0, threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.reads.wait()
        with contextlib.suppress(OSError):
            while data := os.read(self.out, 2**20):
                self.taken += len(data)


def shout(folder: Path, draw: random.Random) -> float:
    """Returns the longest time between two tokens of the others while a worker shouts."""
    return _shout(folder, draw, draw.choice(["read", "unread", "broken", "closed"]))


def _shout(folder: Path, draw: random.Random, way: str) -> float:
    server, pipe = serve(folder), _Pipe()
    if way == "closed":
        server.prefix = ["sh", "-c", 'exec "$@" 2>&-', "sh"]
    else:
        server.stderr = pipe.into
    if way == "broken":
        os.close(pipe.out)
    elif way == "read":
        pipe.reads.set()
    try:
        server.start()
        until(server.healthy, RECOVERY)
        scene = Scene(server, draw)
        scene.ready()
        # bytes that native code writes itself would stop it at a full pipe, as anywhere; what is logged never does
        faults = [f"chatter:{_SECONDS}"] + ([] if way == "unread" else [f"flood:{_SECONDS}"])
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as crowd:
            began = time.monotonic()
            for fault in faults:
                assert text_of(scene.say("a", WORDS, fault=fault, at=1)) == WORDS
            until(lambda: "chatter ends" in scene.text("/logs?model=a"), RECOVERY, "the tail is in the ring")
            ended = time.monotonic()
        found = violations(crowd.entries, [])
        assert not found, f"{way}: {found[:3]}"
        if way == "read":
            lines = _RATE * (ended - began) + _BURST
            assert pipe.taken > 50 * 2**20, f"only {pipe.taken / 2**20:.0f} MiB came"
            scene.tally(f"{pipe.taken / 2**20 / _SECONDS:.0f} MiB/s, at most {lines:.0f} lines of a log")
        return max((entry.gap for entry in crowd.entries if entry.began < ended), default=0.0)
    finally:
        pipe.reads.set()
        os.close(pipe.into)
        tidy(server)


_RATE, _BURST = 200, 1000
ENDINGS = (Ending("36", "100 MB/s on stderr; stderr full, broken, closed", shout, 8),)
