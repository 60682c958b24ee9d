"""Rows of RELIABILITY.md's matrix that end a server; each starts its own, and returns seconds to the last death."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.e2e.server import PATIENCE, Server, alive, still_there, until
from tests.faults.crowd import Crowd
from tests.faults.history import Entry
from tests.faults.scene import MODELS, SETTINGS, Scene, role, serve

_GONE = PATIENCE  # seconds after the root's death in which nobody may be left; how many it took is in the table
INTENSITY = SETTINGS.replace("max_deaths = 100000", "max_deaths = 3") + '[models.bad]\nfile = "crash=exit:1"\n'


@dataclass(frozen=True, slots=True)
class Ending:
    number: str
    fault: str
    act: Callable[[Path, random.Random], float]
    short: int  # times in a short run
    together: int = 1  # so many servers side by side: it waits more than it works


def kill_root(folder: Path, draw: random.Random) -> float:
    """At any moment from its first breath on."""
    server = serve(folder)
    try:
        server.start()
        if draw.random() < 0.5:
            time.sleep(draw.random() * 1.2)
            return _orphans(server)
        until(server.healthy)
        scene = Scene(server, draw)
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
            scene.busy(draw.choice(MODELS))
            if draw.random() < 0.5:
                scene.signal("w:a")  # in the midst of a restart
            scene.pause(0.3)
            return _orphans(server)
    finally:
        tidy(server)


def kill_root_with_a_deaf_worker(folder: Path, draw: random.Random) -> float:
    """A worker that is in C with the GIL held, or stopped, hears nothing, and ends all the same."""
    server = serve(folder)
    try:
        server.start()
        until(server.healthy)
        scene = Scene(server, draw)
        until(lambda: scene.state("a") == "ready")
        if draw.random() < 0.5:
            scene.signal("w:a", signal.SIGSTOP)
        else:
            thread = threading.Thread(target=_ask_for_a_hang, args=(scene,), daemon=True)
            thread.start()
            time.sleep(0.3)
        return _orphans(server)
    finally:
        tidy(server)


def stop_root_for_longer_than_its_lease(folder: Path, draw: random.Random) -> float:
    """Nobody is left to serve a root that hangs; once it goes on it starts them all again. Seconds until all serve."""
    server = serve(folder, SETTINGS.replace("[liveness]\n", '[liveness]\nlease = "2s"\n'))
    try:
        server.start()
        until(server.healthy)
        scene = Scene(server, draw)
        scene.ready()
        family = [process for process in server.family() if role(process) not in ("root", "")]
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
            scene.busy(draw.choice(MODELS))
            server.process.send_signal(signal.SIGSTOP)
            left = still_there(family)
            server.process.send_signal(signal.SIGCONT)
            assert not left, f"left: {[_shown(process) for process in left]}"
            began = time.monotonic()
            until(lambda: all(scene.crowd.first_token(model, began) for model in MODELS), what="all serve")
        return max(scene.crowd.first_token(model, began) for model in MODELS) - began
    finally:
        tidy(server)


def stop_root(folder: Path, draw: random.Random) -> float:
    """SIGTERM while it boots, loads, streams, restarts something or is reloaded; sometimes twice."""
    moment, twice = draw.choice(["boot", "load", "stream", "restart", "reload"]), draw.random() < 0.3
    server = serve(folder)
    try:
        server.start()
        if moment == "boot":
            time.sleep(draw.random() * 1.2)
            return _stops(server, twice, entries=[])
        until(server.healthy)
        scene = Scene(server, draw)
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
            scene.busy("b")
            if moment == "load":
                scene.gate.touch()
                assert scene.post("/models/load", {"model": "slow"}).status_code == 200
            if moment == "restart":
                scene.signal("w:a")
            if moment == "reload":
                server.write(SETTINGS + "n_ctx = 5000\n")  # of the last model
                scene.reload()
            scene.pause(0.3)
            return _stops(server, twice, scene.crowd.entries, but="a" if moment == "restart" else "")
    finally:
        tidy(server)


def restart_intensity(folder: Path, draw: random.Random) -> float:
    """A model that always dies is started four times, no more, until an admin asks; the rest serve."""
    with serve(folder, INTENSITY) as server:
        scene = Scene(server, draw)
        began = time.monotonic()
        for times in (1, 2):
            assert scene.post("/models/load", {"model": "bad"}).status_code == 200
            until(lambda: scene.state("bad") == "failed")
            assert server.log.read_text().count("ended role=w:bad") == 4 * times
            assert scene.status("bad")["cause"] == "restart_limit"
        assert scene.say("a", "fine").status_code == 200
        return time.monotonic() - began


def proxy_that_cannot_start(folder: Path, draw: random.Random) -> float:
    """The root ends with 1 after its fifth death, and nobody is left."""
    server = serve(folder, 'proxy = "tests.children:exits"\n' + SETTINGS)
    try:
        began = time.monotonic()
        server.start()
        family = until(lambda: len(found := server.family()) > 1 and found)
        code = server.process.wait(60)
        told = server.log.read_text()
        assert code == 1, f"exit code {code}"
        assert told.count("ended role=proxy-0") == 5, told
        assert "keeps dying" in told, told
        assert "Traceback" not in told, told
        assert not still_there(family, within=_GONE)
        return time.monotonic() - began
    finally:
        tidy(server)


def _ask_for_a_hang(scene: Scene) -> None:
    try:
        scene.say("a", "one two three", fault="hang_c", at=1)
    except httpx.HTTPError:
        pass  # the proxy dies with the rest


def _orphans(server: Server) -> float:
    """Kills the root and waits for the last of its family."""
    family = server.family()[1:]
    began = time.monotonic()
    server.process.kill()
    server.process.wait()
    while (left := [process for process in family if alive(process)]) and time.monotonic() < began + _GONE:
        time.sleep(0.002)
    assert not left, f"orphans: {[_shown(process) for process in left]}"
    return time.monotonic() - began


def _stops(server: Server, twice: bool, entries: list[Entry], but: str = "") -> float:
    """SIGTERM, and what must come of it. `but`: a model whose streams a fault has ended."""
    begun = [e for e in entries if e.first is not None and not e.marks and e.model != but]
    family, began = server.family(), time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    if twice:
        time.sleep(0.05)
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGTERM)
    code, took = server.process.wait(PATIENCE), time.monotonic() - began
    told = server.log.read_text()
    unborn = code == -signal.SIGTERM and "started" not in told  # it had not come to its first line
    assert code == 0 or unborn, f"exit code {code}"
    assert "Traceback" not in told, told[told.index("Traceback") :][:2000]
    assert not (left := still_there(family, within=_GONE)), f"left: {[_shown(process) for process in left]}"
    good = ("done", "left", "error") if twice else ("done", "left")
    until(lambda: all(entry.marks for entry in begun), what="every stream has ended")
    cut = [entry.marks for entry in begun if entry.marks[0] not in good]
    assert not cut, f"{len(cut)} of {len(begun)} streams were cut: {cut[:3]}"
    return took


def tidy(server: Server) -> None:
    """The end of a server, whatever state it is in; nobody is left."""
    if not hasattr(server, "process"):
        return  # it could not even be started
    family = server.family()
    server.process.kill()
    still_there(family)
    server.end(family)


def _shown(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return str(process.pid)


ENDINGS = (
    Ending("5", "root killed, at any moment", kill_root, 60),
    Ending("6", "root killed, a worker deaf", kill_root_with_a_deaf_worker, 30),
    Ending("10", "root stopped for longer than its lease", stop_root_for_longer_than_its_lease, 5, together=3),
    Ending("18", "worker exits at once, always", restart_intensity, 10, together=3),
    Ending("19", "proxy exits at once, always", proxy_that_cannot_start, 5, together=3),
    Ending("34", "SIGTERM at any moment", stop_root, 50, together=2),
)
