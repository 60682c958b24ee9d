"""A child that SIGKILL does not end: its memory stays booked, the rest serves, and it is told. Row 17."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx

from tests.e2e.server import text_of, until
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending, tidy
from tests.faults.history import violations
from tests.faults.rows import WORDS
from tests.faults.scene import RECOVERY, SETTINGS, Scene, serve
from tests.faults.tracer import Held

_PLACES = SETTINGS.replace("max_models = 0", "max_models = 3")
_PLACES += '[shutdown]\nkill_timeout = "1s"\n'
_LAG = 10.0  # seconds in which the root has to answer; one that waits for a process would not do so at all


def stuck_in_the_kernel(folder: Path, draw: random.Random) -> float:
    """Returns how long the model took from its release to its next answer."""
    server = serve(folder, _PLACES)
    try:
        server.start()
        until(server.healthy, RECOVERY)
        scene = Scene(server, draw)
        scene.ready()
        with Crowd(server.url, "bc", 10, draw.randrange(2**30)) as scene.crowd:
            recovery = _through(scene)
        found = violations(scene.crowd.entries, [])
        assert not found, found[:3]
        return recovery
    finally:
        tidy(server)


def _through(scene: Scene) -> float:
    pid = scene.pid("w:a")
    with Held(pid) as held:
        threading.Thread(target=_hang, args=(scene,), daemon=True).start()
        until(held.stuck.is_set, RECOVERY, "SIGKILL")
        until(lambda: scene.status("a").get("cause") == "unkillable", RECOVERY, "it is reported")
        assert scene.state("a") == "failed"
        assert scene.say("a", WORDS).status_code == 503
        assert scene.post("/models/load", {"model": "a"}).status_code >= 400 or scene.state("a") == "failed"
        assert scene.pid("w:a") == pid, "another one was started beside it"
        for _ in range(20):
            asked = time.monotonic()
            assert (
                httpx.post(f"{scene.server.url}/models/load", json={"model": "b"}, timeout=RECOVERY).status_code == 200
            )
            assert time.monotonic() - asked < _LAG, "the root waits"
    began = time.monotonic()
    until(lambda: scene.state("a") == "unloaded", RECOVERY, "it has gone after all")
    assert text_of(scene.say("a", WORDS)) == WORDS
    return time.monotonic() - began


def _hang(scene: Scene) -> None:
    scene.say("a", "one two three", fault="hang", at=1)


ENDINGS = (Ending("17", "a child that SIGKILL does not end", stuck_in_the_kernel, 5, together=2),)
