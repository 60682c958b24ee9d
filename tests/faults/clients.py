"""Clients that take little, hold much, or send much. Rows 23, 24 and 29."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from tests.e2e.server import text_of
from tests.faults.history import Hit
from tests.faults.rows import WORDS, Row
from tests.faults.scene import RECOVERY, Scene

_SLOW, _IDLE, _IMAGES = 100, 10_000, 16
_OURS = 500  # descriptors that this process needs beside the connections
_GROWTH = 200 * 2**20  # bytes of the proxy that 100 backlogs may take
_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def slow_clients(scene: Scene) -> Hit:
    """They read a byte a second of a long answer, and are cut off by what waits for them, or by how long it does."""
    assert scene.say("slow", WORDS).status_code == 200  # loaded
    proxy = psutil.Process(scene.pid("proxy-0"))
    before, descriptors, began = proxy.memory_info().rss, proxy.num_fds(), time.monotonic()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(_reader(scene.server.port, number)) for number in range(_SLOW)]
        for sock in socks:
            sock.recv(1)  # it is being answered, or was cut off already
        most = _until_cut(socks, proxy, descriptors)
    took = time.monotonic() - began
    assert most - before < _GROWTH, f"the proxy has grown by {(most - before) / 2**20:.0f} MiB"
    assert scene.post("/models/unload", {"model": "slow", "wait": True}).status_code == 200
    return Hit(None, began, time.monotonic(), took)


def _reader(port: int, number: int) -> socket.socket:
    """Asks for a long answer: as fast as it goes, or at a pace that takes the deadline to cut it off."""
    rate = 0 if number % 10 else 2000
    text = json.dumps({"echo": {"rate": rate}}) + " " + ("w" * 300 + " ") * 8
    asked = {"model": "slow", "stream": True, "max_tokens": 10**6, "prompt": text}
    body = json.dumps(asked).encode()
    sock = socket.socket()
    sock.settimeout(3 * RECOVERY)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return sock


def _until_cut(socks: list[socket.socket], proxy: psutil.Process, descriptors: int) -> int:
    """Reads a byte of each a second until the proxy has given them all up; the most memory that it had meanwhile.

    They cannot see that: what the kernel holds for them comes first.
    """
    most, deadline, next_byte = 0, time.monotonic() + 3 * RECOVERY, time.monotonic() + 1
    while (left := proxy.num_fds() - descriptors - _SLOW // 4) > 0:
        assert time.monotonic() < deadline, f"about {left} slow clients are still served"
        most = max(most, proxy.memory_info().rss)
        time.sleep(0.1)
        if time.monotonic() >= next_byte:
            next_byte += 1
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.recv(1, socket.MSG_DONTWAIT)
    return most


def idle_connections(scene: Scene) -> Hit:
    """They are kept and cost little; who comes beside them is served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(_IDLE, hard - _OURS)
    proxy = psutil.Process(scene.pid("proxy-0"))
    before, began, times = proxy.memory_info().rss, time.monotonic(), []
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", scene.server.port)))
                sock.sendall(_HEALTH)
                assert sock.recv(4096).startswith(b"HTTP/1.1 200"), "refused"
            scene.note = f"{count} connections, {(proxy.memory_info().rss - before) / count / 1024:.1f} kB each"
            for _ in range(50):
                asked = time.monotonic()
                assert text_of(scene.say("a", WORDS)) == WORDS
                times.append(time.monotonic() - asked)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Hit(None, began, time.monotonic(), sorted(times)[-1])


def large_bodies(scene: Scene) -> Hit:
    """16 pictures of 10 MB at once: refused or taken, while everybody else's tokens flow."""
    began, times = time.monotonic(), []
    picture = base64.b64encode(os.urandom(7_500_000)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    body = json.dumps({"model": "a", "messages": [{"role": "user", "content": [part]}]}).encode()

    def send(_: int) -> httpx.Response:
        return httpx.post(f"{scene.server.url}/v1/chat/completions", content=body, timeout=60)

    with ThreadPoolExecutor(_IMAGES) as pool:
        answers = [pool.submit(send, number) for number in range(_IMAGES)]
        while not all(answer.done() for answer in answers):
            asked = time.monotonic()
            assert httpx.get(f"{scene.server.url}/health", timeout=RECOVERY).status_code == 200
            times.append(time.monotonic() - asked)
    for answer in answers:
        status = answer.result().status_code
        assert status < 500 or status == 501, f"{status} {answer.result().text[:200]}"
    return Hit(None, began, time.monotonic(), max(times, default=0.0))


ROWS = (
    Row("23", "100 clients that read a byte a second", slow_clients, 5),
    Row("24", "10,000 idle connections", idle_connections, 1),
    Row("29", "16 bodies of 10 MB at once", large_bodies, 5),
)
