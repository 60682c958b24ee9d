"""The holder of the CPU turn stopped or killed: whoever waits for it goes on. Row 41."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import httpx

from tests.e2e.server import until
from tests.faults.history import Hit
from tests.faults.rows import Row
from tests.faults.scene import RECOVERY, Scene

_TOKENS = 200
_WATCHED = 2.0  # seconds after the blow


class Tokens:
    """A stream of a real model; `times` are those at which its tokens came."""

    def __init__(self, scene: Scene, model: str, count: int = _TOKENS) -> None:
        self.times: list[float] = []
        self.ended = ""
        body = {"model": model, "prompt": "Once", "max_tokens": count, "ignore_eos": True, "stream": True}
        self._thread = threading.Thread(target=self._read, args=(scene.server.url, body), daemon=True)
        self._thread.start()

    def _read(self, url: str, body: dict[str, object]) -> None:
        try:
            with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
                for line in response.iter_lines():
                    if line.startswith("data: {"):
                        self.times.append(time.monotonic())
                        self.ended = "error" if line.startswith('data: {"error"') else self.ended
                    elif line == "data: [DONE]":
                        self.ended = "done"
        except httpx.HTTPError as error:
            self.ended = repr(error)

    def join(self) -> str:
        self._thread.join(60)
        return self.ended


def holder(scene: Scene) -> Hit:
    """Two real models decode by turns; one is stopped or killed at any moment. The hit's figure: the other's pause."""
    victim, other = scene.draw.sample(["m1", "m2"], 2)
    for model in (victim, other):
        assert scene.post("/models/load", {"model": model, "wait": True}, 60).status_code == 200
    streams = {model: Tokens(scene, model) for model in (victim, other)}
    until(lambda: all(len(stream.times) > 5 for stream in streams.values()), RECOVERY, "both decode")
    stops = scene.draw.random() < 0.5
    began = time.monotonic()
    scene.signal(f"w:{victim}", signal.SIGSTOP if stops else signal.SIGKILL)
    count = len(streams[other].times)
    until(lambda: len(streams[other].times) > count + 5 or streams[other].ended, RECOVERY, "the other goes on")
    time.sleep(_WATCHED)
    times = [began, *(at for at in streams[other].times if began <= at <= began + _WATCHED)]
    if stops:
        scene.signal(f"w:{victim}", signal.SIGCONT)
    assert streams[other].join() == "done", streams[other].ended
    assert streams[victim].join() == ("done" if stops else "error"), streams[victim].ended
    for model in (victim, other):
        assert scene.post("/models/unload", {"model": model, "wait": True}, 60).status_code == 200
    gap = max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)
    return Hit(None, began, time.monotonic(), gap)


ROWS = (Row("41", "the CPU turn's holder stopped or killed", holder, 20),)
