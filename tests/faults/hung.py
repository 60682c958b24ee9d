"""A proxy whose loop stands still while a model drains: it counts as drained at the deadline. Row 42."""

from __future__ import annotations

import json
import random
import re
import signal
import threading
import time
from pathlib import Path

import httpx

from tests.e2e.server import text_of, until
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending, tidy
from tests.faults.history import ANY, Hit, violations
from tests.faults.rows import WORDS
from tests.faults.scene import MODELS, RECOVERY, SETTINGS, Scene, serve

_DEADLINE = 2.0
_SETTINGS = (
    'proxy = "tests.children:halting_proxy"\n'
    + SETTINGS.replace('pong_timeout = "3s"', 'pong_timeout = "8s"')
    + f'[shutdown]\ndrain_timeout = "{_DEADLINE}s"\n'
)


def proxy_hangs_in_a_drain(folder: Path, draw: random.Random) -> float:
    """It goes on after a while, or never does and is replaced. Returns how long the drain was."""
    server, halt = serve(folder, _SETTINGS), folder / "halt"
    server.environment["LSV_HALT"] = str(halt)
    try:
        server.start()
        until(server.healthy, RECOVERY)
        scene, model, others = Scene(server, draw), draw.choice(MODELS), draw.random() < 0.5
        scene.ready()
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
            hit = _through(scene, model, halt, lasting=others)
        found = violations(scene.crowd.entries, [hit])
        assert not found, found[:3]
        return hit.recovery
    finally:
        tidy(server)


def _through(scene: Scene, model: str, halt: Path, *, lasting: bool) -> Hit:
    threading.Thread(target=_long_stream, args=(scene, model), daemon=True).start()
    scene.busy(model)
    proxy, worker = scene.pid("proxy-0"), scene.pid(f"w:{model}")
    halt.touch()
    began = time.monotonic()
    assert scene.post("/models/unload", {"model": model}).status_code == 200
    scene.signal("proxy-0", signal.SIGUSR2)
    told = re.compile(rf"DRAINING → STOPPING model={model} after=([\d.]+)s")
    drained = until(lambda: told.search(scene.server.log.read_text()), RECOVERY, "it is drained")
    if lasting:
        scene.pid("proxy-0", but=proxy)
    halt.unlink()
    until(lambda: worker not in scene.server.titles(), RECOVERY, "the worker has gone")
    for name in MODELS:
        until(lambda name=name: text_of(scene.say(name, WORDS)) == WORDS, RECOVERY, f"{name} serves")
    assert lasting or scene.pid("proxy-0") == proxy, "it was killed, though it went on in time"
    return Hit(ANY if lasting else model, began, time.monotonic(), float(drained[1]), closes=lasting)


def _long_stream(scene: Scene, model: str) -> None:
    """It would take a minute, so that the drain comes to its deadline."""
    prompt = json.dumps({"echo": {"rate": 5}}) + " word" * 300
    try:
        with httpx.stream(
            "POST", f"{scene.server.url}/v1/completions", json={"model": model, "prompt": prompt, "stream": True}
        ) as response:
            response.read()
    except httpx.HTTPError:
        pass  # its proxy was killed


ENDINGS = (Ending("42", "proxy hangs in a drain", proxy_hangs_in_a_drain, 20, together=3),)
