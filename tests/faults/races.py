"""Loads, evictions, requests and unloads in random order, six models on three places. Row 33."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.e2e.server import until
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending, tidy
from tests.faults.history import ANY, Hit, violations
from tests.faults.scene import RECOVERY, Scene, serve

_NAMES = "uvwxyz"
_SECONDS = 12.0
_SETTINGS = """
[defaults]
worker = "tests.echo_worker:main"
[admission]
max_wait = "500ms"
[restart]
backoff = "50ms"
backoff_max = "200ms"
max_deaths = 100000
[placement]
max_models = 3
""" + "".join(f'[models.{name}]\nfile = "load=0.{number}"\n' for number, name in enumerate(_NAMES))


def race(folder: Path, draw: random.Random) -> float:
    """Every request ends, no model starves. Returns the longest wait for a first token."""
    server = serve(folder, _SETTINGS)
    try:
        server.start()
        until(server.healthy, RECOVERY)
        scene, began = Scene(server, draw), time.monotonic()
        with Crowd(server.url, _NAMES, 12, draw.randrange(2**30)) as crowd:
            while time.monotonic() < began + _SECONDS:
                model = draw.choice(_NAMES)
                match draw.randrange(4):
                    case 0:
                        scene.post("/models/load", {"model": model})
                    case 1:
                        scene.post("/models/unload", {"model": model})
                    case 2 if (pid := server.pid(f"w:{model}")) is not None:
                        scene.kill(pid)
                    case _:
                        scene.say(model, "in between", 60)
                scene.pause(0.3)
        found = violations(crowd.entries, [Hit(ANY, began, time.monotonic(), 0.0)])
        assert not found, found[:3]
        served = {model: [e for e in crowd.entries if e.model == model and e.marks == ["done"]] for model in _NAMES}
        assert all(served.values()), f"starved: {[model for model, entries in served.items() if not entries]}"
        return max(entry.first - entry.began for entry in crowd.entries if entry.first is not None)
    finally:
        tidy(server)


ENDINGS = (Ending("33", "loads, evictions, deaths at random", race, 5),)
