"""A request that kills its worker, and is repeated by a client that does not know better. Row 43."""

from __future__ import annotations

import signal
import time

from tests.e2e.server import text_of, until
from tests.faults.history import Hit
from tests.faults.rows import WORDS, Row
from tests.faults.scene import MODELS, RECOVERY, Scene


def repeat_what_kills(scene: Scene) -> Hit:
    """Two deaths, no third: from then on it is refused, and the model stays for everybody else."""
    model, number = scene.draw.choice(MODELS), scene.draw.choice([signal.SIGSEGV, signal.SIGABRT])
    text = f"{WORDS} {scene.draw.random()}"
    pids, began, last = [scene.pid(f"w:{model}")], time.monotonic(), 0.0
    for _ in range(2):
        answer = scene.say(model, text, fault=number.name, at=2, rate=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "worker_died"), answer.text
        last = time.monotonic()
        pids.append(scene.pid(f"w:{model}", but=pids[-1]))
        until(lambda: scene.state(model) == "ready", RECOVERY)
    for _ in range(3):
        answer = scene.say(model, text, fault=number.name, at=2, rate=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "request_quarantined"), answer.text
    assert text_of(scene.say(model, text)) == text  # it was not for these words
    hit = scene.recovered(model, began, since=last)
    assert scene.pid(f"w:{model}") == pids[-1], "it died once more"
    return hit


ROWS = (Row("43", "a request that kills its worker, repeated", repeat_what_kills, 10),)
