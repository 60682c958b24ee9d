"""A small real model dies in a stream, and comes back with everything that its load takes. Row 1."""

from __future__ import annotations

import time

from tests.e2e.server import until
from tests.faults.history import Hit
from tests.faults.rows import Row
from tests.faults.scene import RECOVERY, Scene
from tests.faults.turns import Tokens


def kill_small(scene: Scene) -> Hit:
    """Whoever asks at once waits for the restart. The hit's figure: from the death to that answer's first token."""
    until(lambda: scene.state("m1") != "loading", RECOVERY)
    idle = scene.state("m1") == "unloaded"
    if idle:
        assert scene.post("/models/load", {"model": "m1", "wait": True}).status_code == 200
    running = Tokens(scene, "m1")
    until(lambda: len(running.times) > 5, RECOVERY, "it decodes")
    scene.pause(0.2)
    began = time.monotonic()
    scene.signal("w:m1")
    next_one = Tokens(scene, "m1", count=4)
    assert running.join() == "error", running.ended
    assert next_one.join() == "done", next_one.ended
    until(lambda: scene.state("m1") == "ready", RECOVERY)
    if idle:
        assert scene.post("/models/unload", {"model": "m1", "wait": True}).status_code == 200
    return Hit(None, began, time.monotonic(), next_one.times[0] - began)


ROWS = (Row("1", "worker of SmolLM2-135M killed in a stream", kill_small, 50),)
