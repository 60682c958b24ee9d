"""Descriptors that run out, of the root, a proxy or a worker, and come back. Row 20."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator

import psutil

from tests.e2e.server import text_of, until
from tests.faults.history import ANY, Hit
from tests.faults.rows import WORDS, Row
from tests.faults.scene import MODELS, RECOVERY, Scene


@contextlib.contextmanager
def no_more_descriptors(pid: int, spare: int = 0) -> Iterator[None]:
    """The process has those that it has, and may open none beside `spare`."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(highest + 1 + spare, soft), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def root_without_descriptors(scene: Scene) -> Hit:
    """A worker dies meanwhile: it cannot come back, nobody else notices, and it does once there are some again."""
    model = scene.draw.choice(MODELS)
    scene.busy(model)
    root, began = scene.server.process.pid, time.monotonic()
    with no_more_descriptors(root, spare=scene.draw.randrange(6)):  # fails at another step each time
        old = scene.signal(f"w:{model}")
        scene.server.process.send_signal(signal.SIGHUP)
        scene.pause(2.0)
        _calm(psutil.Process(root))
        assert scene.server.process.poll() is None, "the root has ended"
    last = time.monotonic()
    scene.pid(f"w:{model}", but=old)
    return scene.recovered(model, began, since=last)


def proxy_without_descriptors(scene: Scene) -> Hit:
    """More clients than it can take: those are turned away, who is there goes on; no busy loop; then all is well."""
    proxy = psutil.Process(scene.pid("proxy-0"))
    began = time.monotonic()
    with no_more_descriptors(proxy.pid, spare=scene.draw.randrange(20)), contextlib.ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", scene.server.port), RECOVERY))
            with contextlib.suppress(OSError):
                sock.sendall(b"GET /health HTTP/1.1\r\n")
        if scene.draw.random() < 0.5:
            scene.signal(f"w:{scene.draw.choice(MODELS)}")  # its links cannot be taken
        scene.pause(2.0)
        _calm(proxy)
        assert proxy.is_running(), "it has ended"
    last = time.monotonic()
    until(lambda: text_of(scene.say("b", WORDS)) == WORDS, RECOVERY)
    return scene.recovered(ANY, began, since=last, closes=True)


def worker_without_descriptors(scene: Scene) -> Hit:
    """A new proxy cannot be joined to it: it is replaced, or joined later; the others serve."""
    model = scene.draw.choice(MODELS)
    began = time.monotonic()
    pid = scene.pid(f"w:{model}")
    with no_more_descriptors(pid):
        scene.kill_proxy()
        others = [other for other in MODELS if other != model]
        until(lambda: text_of(scene.say(others[0], WORDS)) == WORDS, RECOVERY)
        scene.pause(1.0)
        if psutil.pid_exists(pid):
            _calm(psutil.Process(pid))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            scene.pause(1.0)
    last = time.monotonic()
    scene.recovered(model, began, since=last)
    return scene.recovered(ANY, began, since=last, closes=True)


def _calm(process: psutil.Process) -> None:
    """It does not spin for want of what it cannot get. The crowd's own work is less than half of one core's."""
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(1.0)
    after, took = process.cpu_times(), time.monotonic() - began
    used = (after.user + after.system - before.user - before.system) / took
    assert used < 0.9, f"it uses {used:.2f} of a core"


ROWS = (
    Row("20", "the root has no descriptors left", root_without_descriptors, 5),
    Row("20", "the proxy has no descriptors left", proxy_without_descriptors, 5),
    Row("20", "a worker has no descriptors left", worker_without_descriptors, 5, per_server=2),
)
