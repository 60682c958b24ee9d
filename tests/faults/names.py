"""Names that are paths, wherever a name may stand, in a server that tells what it opens. Row 30."""

from __future__ import annotations

import random
from pathlib import Path

from tests.e2e.server import until
from tests.e2e.watched import WITHIN, Watched, attack, hostile
from tests.faults.endings import Ending

_MORE = 100  # names at random, beside those that are known


def names_that_are_paths(folder: Path, draw: random.Random) -> float:
    """Nothing is opened for them, by Python or by llama.cpp. The figure: the slowest answer."""
    folder.mkdir(parents=True)
    server = Watched(folder)
    try:
        until(server.healthy, WITHIN, "health")
        assert server.http.post("/models/load", json={"model": "a", "wait": True}).status_code == 200
        slowest = max(attack(server, hostile(server, draw, _MORE)))
        assert server.touched() == []
        assert server.odd() == []
        return slowest
    finally:
        server.close()


ENDINGS = (Ending("30", "3,000 requests with names that are paths", names_that_are_paths, 5),)
