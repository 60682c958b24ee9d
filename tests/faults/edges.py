"""What clients send that is no request, or too much of one: many of each, beside a crowd. Rows 26, 27 and 28."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from supervisor import configfile
from tests.faults import wire
from tests.faults.history import Hit
from tests.faults.lag import Lag
from tests.faults.rows import Row
from tests.faults.scene import MODELS, Scene
from tests.fuzz import over_http
from tests.fuzz import wire as odd

ODD = ("odd", "strange")  # the models that are asked so, which the crowd is not
_EACH = 250
_COPIES = 4  # of a body: as it came, in one piece, parsed; and one for what is beside it
_BESIDE = 64 * 2**20  # bytes that the crowd's requests and the allocator may take meanwhile
SETTINGS = "".join(
    f'[models.{name}]\nworker = "tests.echo_worker:main"\nfile = "rate=0"\npreload = true\npin = true\n' for name in ODD
)


def odd_connections(scene: Scene) -> Hit:
    """Right, wrong, cut off and spoiled requests in any order, on many connections at once."""
    return _unharmed(scene, lambda seed: asyncio.run(odd.connections(scene.server.port, _EACH, seed, ODD[0])))


def odd_bodies(scene: Scene) -> Hit:
    """Requests to every route that has a body, with something done to it."""
    return _unharmed(scene, lambda seed: over_http.ask(scene.server.port, _EACH, seed, (*ODD, ODD[0], "nobody")))


def huge_bodies(scene: Scene) -> Hit:
    """Around the limit, declared or not, and a GiB. What the proxy needs for them is bounded, too."""
    limit, port = configfile.load(scene.server.file).server.max_body, scene.server.port
    proxy = psutil.Process(scene.pid("proxy-0"))
    before = _peak(proxy, anew=True)

    def send(seed: int) -> None:
        wire.sizes(port, limit)
        wire.undeclared(port, 2**30, limit)

    hit = _unharmed(scene, send)
    taken = _peak(proxy) - before
    assert taken < _COPIES * limit + _BESIDE, f"{taken / 2**20:.0f} MiB for bodies of at most {limit / 2**20:.0f} MiB"
    scene.note = f"the proxy took {taken / 2**20:.0f} MiB for bodies of up to {limit / 2**20:.0f} MiB"
    return hit


def _unharmed(scene: Scene, act: Callable[[int], object]) -> Hit:
    """Nobody was restarted, and no bug seen. The hit's figure: the slowest answer to GET /health meanwhile."""
    roles = ["root", "proxy-0", *(f"w:{model}" for model in (*MODELS, *ODD))]
    before, told, began = [scene.pid(role) for role in roles], len(scene.server.log.read_text()), time.monotonic()
    with Lag(scene.server.port) as lag:
        act(scene.draw.randrange(2**40))
    assert [scene.pid(role) for role in roles] == before, "a process was restarted"
    log = scene.server.log.read_text()[told:]
    for word in ("a bug", "Traceback"):
        assert word not in log, log[log.index(word) :][:2000]
    return Hit(None, began, time.monotonic(), lag.worst)


def _peak(process: psutil.Process, *, anew: bool = False) -> int:
    """The most memory that a process has had, in bytes; `anew`: counted from now on, where the kernel lets us."""
    place = Path(f"/proc/{process.pid}")
    if anew:
        (place / "clear_refs").write_text("5")
    line = next(line for line in (place / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


ROWS = (
    Row("26", f"{_EACH} odd connections over raw sockets", odd_connections, 40),
    Row("27", f"{_EACH} odd bodies, to every route", odd_bodies, 40),
    Row("28", "bodies around the limit, and of a GiB", huge_bodies, 5),
)
