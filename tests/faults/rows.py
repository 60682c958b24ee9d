"""Rows of RELIABILITY.md's matrix that one server lives through. Each acts once and returns when all is well again."""

from __future__ import annotations

import itertools
import signal
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psutil

from tests.e2e.server import PATIENCE, text_of, until
from tests.echo_worker import LIES
from tests.faults import malformed
from tests.faults.history import ANY, Hit
from tests.faults.scene import MODELS, RECOVERY, Scene

WORDS = "one two three four five"


@dataclass(frozen=True, slots=True)
class Row:
    """`number` as in the matrix; `act` raises AssertionError if the fault is not dealt with as it must be.

    `short`: times in a short run. `per_server`: a fresh server after so many; 0: one for all. `together`: so many of
    those servers side by side, where a row waits more than it works.
    """

    number: str
    fault: str
    act: Callable[[Scene], Hit]
    short: int
    per_server: int = 0
    together: int = 1


def _new(scene: Scene) -> str:
    """Words that no request had before: one that was there at two deaths is refused."""
    return f"{WORDS} {scene.draw.random()}"


def kill_worker(scene: Scene) -> Hit:
    model = scene.draw.choice(MODELS)
    scene.busy(model)
    began = time.monotonic()
    scene.signal(f"w:{model}")
    return scene.recovered(model, began)


def crash_worker(scene: Scene) -> Hit:
    model, number = scene.draw.choice(MODELS), scene.draw.choice([signal.SIGSEGV, signal.SIGABRT])
    scene.busy(model)
    before = len(scene.server.log.read_text())
    began = time.monotonic()
    old = scene.signal(f"w:{model}", number)
    scene.pid(f"w:{model}", but=old)  # it may answer others while its stacks are written
    hit = scene.recovered(model, began)
    told = scene.server.log.read_text()[before:]
    assert f"signal={number.name}" in told, "the signal is not in the log"
    assert "Fatal Python error" in told, "no stack dump"
    return hit


def kill_while_loading(scene: Scene) -> Hit:
    def kill() -> None:
        until(lambda: scene.state("slow") == "loading")
        scene.signal("w:slow")

    return _load_through(scene, kill)


def kill_standby(scene: Scene) -> Hit:
    standby = psutil.Process(scene.pid("standby"))
    idle = scene.draw.random() < 0.5

    def kill() -> None:
        scene.pause(0.05 if idle else 0.3)
        standby.kill()

    if idle:
        kill()
    return _load_through(scene, (lambda: None) if idle else kill)


def kill_tracker(scene: Scene) -> Hit:
    root = psutil.Process(scene.server.process.pid)
    found = [child for child in root.children() if "resource_tracker" in " ".join(child.cmdline())]
    assert found, "no resource_tracker"
    if scene.draw.random() < 0.5:
        found[0].kill()
        return _load_through(scene, lambda: None)
    found[0].suspend()
    try:
        return _load_through(scene, lambda: None)
    finally:
        found[0].resume()


def _load_through(scene: Scene, fault: Callable[[], object]) -> Hit:
    """A load that a fault befalls, and whose request is answered all the same."""
    began = time.monotonic()
    scene.gate.touch()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(scene.say, "slow", WORDS)
        try:
            fault()
        finally:
            scene.gate.unlink()
        assert text_of(answer.result(RECOVERY)) == WORDS
    hit = scene.undisturbed(began)
    assert scene.post("/models/unload", {"model": "slow", "wait": True}).status_code == 200
    return hit


def kill_proxy(scene: Scene) -> Hit:
    pids = [scene.pid(f"w:{model}") for model in MODELS]
    began = time.monotonic()
    old = scene.kill_proxy()
    hit = scene.recovered(ANY, began, closes=True)
    assert scene.pid("proxy-0") != old
    assert [scene.pid(f"w:{model}") for model in MODELS] == pids, "a worker was restarted"
    return hit


def kill_proxy_in_a_drain(scene: Scene) -> Hit:
    model = scene.draw.choice(MODELS)
    scene.busy(model)
    old, began = scene.pid(f"w:{model}"), time.monotonic()
    assert scene.post("/models/unload", {"model": model}).status_code == 200
    scene.pause(0.2)
    killed = time.monotonic()
    scene.kill_proxy()
    scene.pid(f"w:{model}", but=old)  # the crowd wants it, so that it comes again
    scene.recovered(model, began)
    return scene.recovered(ANY, began, since=killed, closes=True)


def stop_worker(scene: Scene) -> Hit:
    model = scene.draw.choice(MODELS)
    scene.busy(model)
    began, pid = time.monotonic(), scene.signal(f"w:{model}", signal.SIGSTOP)
    try:
        if scene.draw.random() < 0.5:
            until(lambda: scene.status(model).get("suspended"), RECOVERY, "it is reported")
        else:
            scene.pause(2.0)
    finally:
        scene.signal(f"w:{model}", signal.SIGCONT)
    resumed = time.monotonic()
    scene.recovered(model, began)
    assert scene.pid(f"w:{model}") == pid, "it was killed"
    return scene.undisturbed(resumed)


def stop_worker_for_good(scene: Scene) -> Hit:
    """Whoever asks waits for its restart at the latest; the hit's figure is that wait."""
    model = scene.draw.choice(MODELS)
    scene.busy(model)
    began, old = time.monotonic(), scene.signal(f"w:{model}", signal.SIGSTOP)
    scene.pid(f"w:{model}", but=old)
    return scene.recovered(model, began)


def hang_worker(scene: Scene) -> Hit:
    model, fault = scene.draw.choice(MODELS), scene.draw.choice(["hang", "hang_c", "asleep", "spins"])
    before = len(scene.server.log.read_text())
    old, began = scene.pid(f"w:{model}"), time.monotonic()
    error = scene.say(model, _new(scene), fault=fault, at=2).json()["error"]
    assert error["code"] in ("worker_hung", "worker_died"), error
    assert old != scene.pid(f"w:{model}", but=old)
    hit = scene.recovered(model, began)
    until(lambda: "in fail" in scene.server.log.read_text()[before:], what="a stack dump")
    return hit


def garbage(scene: Scene) -> Hit:
    model = scene.draw.choice(MODELS)
    old, began = scene.pid(f"w:{model}"), time.monotonic()
    for _ in range(3):
        until(lambda: scene.state(model) == "ready", RECOVERY)
        kind = scene.draw.choice(list(LIES))
        scene.tally(kind)
        assert scene.say(model, _new(scene), fault=f"garbage:{kind}", at=1).status_code >= 500
    last = time.monotonic()
    scene.pid(f"w:{model}", but=old)
    return scene.recovered(model, began, since=last)


def pause_root(scene: Scene) -> Hit:
    return _pause(scene, [psutil.Process(scene.server.process.pid)])


def pause_all(scene: Scene) -> Hit:
    return _pause(scene, scene.server.family())


def _pause(scene: Scene, processes: list[psutil.Process]) -> Hit:
    """They stand still for a time, as a paused machine does; nobody may be killed or disturbed for it."""
    roles = ["proxy-0", *(f"w:{model}" for model in MODELS)]
    pids = [scene.pid(role) for role in roles]
    for process in processes:
        process.suspend()
    time.sleep(scene.draw.choice([0.5, 4.0]))
    for process in processes:
        process.resume()
    began = time.monotonic()
    scene.recovered(ANY, began)
    time.sleep(0.5)  # two pings later everybody has been judged
    assert [scene.pid(role) for role in roles] == pids, "somebody was killed"
    return scene.undisturbed(began)


def storm(scene: Scene) -> Hit:
    """Clients that go away in every way there is; what they wanted would take minutes."""
    body = '{"model":"c","stream":true,"prompt":"{\\"echo\\": {\\"rate\\": 1}} ' + "word " * 300 + '"}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    for number in range(60):
        with socket.create_connection(("127.0.0.1", scene.server.port)) as sock:
            match number % 4:
                case 0:
                    pass
                case 1:
                    sock.sendall(head[: scene.draw.randrange(len(head))].encode())
                case 2:
                    sock.sendall((head + body).encode())
                    sock.shutdown(socket.SHUT_WR)
                case _:
                    sock.sendall((head + body).encode())
                    scene.pause(0.05)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ended = time.monotonic()
    scene.recovered("c", ended)
    return scene.undisturbed(ended)


def bad_http(scene: Scene) -> Hit:
    began = time.monotonic()
    for sent in malformed.REQUESTS:
        answer = malformed.exchange(scene.server.port, sent)
        assert malformed.is_refusal(answer), f"{sent[:60]!r} → {answer[:120]!r}"
    return scene.undisturbed(began)


def bad_json(scene: Scene) -> Hit:
    began = time.monotonic()
    with httpx.Client(base_url=scene.server.url, timeout=PATIENCE, verify=False) as client:
        for path, body in itertools.product(malformed.PATHS, malformed.BODIES):
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            refused = 400 <= answer.status_code < 500 or answer.status_code == 501  # which names what is not there yet
            assert refused, f"{path} {body[:60]!r} → {answer.status_code} {answer.text[:200]}"
            assert answer.json()["error"], answer.text[:200]
    return scene.undisturbed(began)


ROWS = (
    Row("1", "worker killed in a stream", kill_worker, 50),
    Row("2", "worker killed while loading", kill_while_loading, 50),
    Row("2", "standby killed, idle or at hand-over", kill_standby, 50),
    Row("3", "SIGSEGV, SIGABRT in a worker", crash_worker, 20),
    Row("4", "proxy killed", kill_proxy, 50, per_server=1, together=2),
    Row("7", "worker stopped, continued", stop_worker, 20, per_server=5, together=2),
    Row("8", "worker hangs, in Python or in C, with the GIL or without", hang_worker, 20, per_server=5, together=2),
    Row("10", "root stopped, continued", pause_root, 5),
    Row("11", "whole tree stopped, continued", pause_all, 5),
    Row("25", "60 clients disconnect", storm, 84),
    Row("26", "malformed HTTP", bad_http, 5),
    Row("27", "malformed JSON", bad_json, 5),
    Row("37", "garbage, oversize, half and old frames", garbage, 20),
    Row("38", "resource_tracker killed, stopped", kill_tracker, 20),
    Row("42", "proxy killed in a drain", kill_proxy_in_a_drain, 20, per_server=1, together=2),
)
STOPPED = (Row("7", "worker stopped for good", stop_worker_for_good, 20, per_server=5, together=4),)
