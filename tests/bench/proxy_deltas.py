"""Deltas per second through one proxy, and its CPU per delta: link in, server-sent events out.

The worker is a process that writes frames prepared in advance, one per decode step with a delta for every stream; the
clients are raw sockets that count. Two rows: at a pace that no client may fall behind, and flat out, where what
arrives while a stream's writer is busy coalesces into one record.

    python -m tests.bench.proxy_deltas [STREAMS STEPS RATE]
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.config import Config, Log, Model
from supervisor.control import Attach, Channel, ConfigureProxy, Facts, Listening, ModelStatus, State, Stop, ToRoot
from tests.bench.table import Row
from tests.e2e.server import Server, until
from worker.protocol import (
    VERSION,
    Accepted,
    Delta,
    Event,
    Finished,
    Framer,
    Generate,
    Hello,
    Request,
    Started,
    Timings,
    encode,
)

_TICK = os.sysconf("SC_CLK_TCK")
_GOAL = 20_000  # deltas per second
_BODY = b'{"messages":[{"role":"user","content":"x"}],"stream":true}'
_PATH = "/v1/chat/completions"
_TEXT = " tok"


@dataclass(frozen=True)
class Result:
    deltas: int
    records: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.deltas / self.seconds

    @property
    def cpu_per_delta(self) -> float:
        """Microseconds."""
        return self.cpu / self.deltas * 1e6


def rows() -> Iterator[Row]:
    for name, steps, pace in (("at a pace", 800, 400), ("flat out", 3000, 0)):
        found = run(streams=64, steps=steps, rate=pace)
        density = found.deltas / found.records
        detail = f"64 streams; proxy CPU {found.cpu_per_delta:.1f} µs per delta; {density:.1f} deltas per record"
        what, figure = f"deltas/s through one proxy, {name}", f"{found.rate:,.0f}"
        yield Row(what, figure, detail, f"≥ {_GOAL:,}", found.rate >= _GOAL)
    found = through_the_tree(streams=64, tokens=2000)
    detail = f"64 streams of the echo worker through the whole tree; proxy CPU {found.cpu_per_delta:.1f} µs per delta"
    yield Row("deltas/s with the echo worker", f"{found.rate:,.0f}", detail, f"≥ {_GOAL:,}", found.rate >= _GOAL)


def through_the_tree(streams: int, tokens: int) -> Result:
    """The same clients against a real server, whose echo worker streams as fast as the proxy takes it."""
    echo = f'[models.m]\nworker = "tests.echo_worker:main"\nparallel = {streams}\npreload = true\n'
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), echo) as server:
        until(lambda: server.state("m") == "ready", 20)
        pid = server.pid("proxy-0")
        assert pid is not None
        body = {"messages": [{"role": "user", "content": "tok"}], "max_tokens": tokens, "stream": True}
        return _clients(("127.0.0.1", server.port), streams, pid, _post(json.dumps(body).encode()), streams * tokens)


def run(streams: int, steps: int, rate: float, path: str = _PATH, body: bytes = _BODY) -> Result:
    """`rate`: steps per second, 0 = as fast as the link takes them."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    proxy = _start("proxy", theirs, listener)
    worker = _start("worker", far, None, streams, steps, rate)
    try:
        root: Channel[Any] = Channel(control, ToRoot)
        model = Model(name="m", worker="tests.bench:none")
        status = ModelStatus("m", State.READY, 0.0, generation=1, facts=Facts(slots=streams))
        settings = Config(file="bench", models={"m": model}, log=Log(level="error"))
        root.send(ConfigureProxy(0, settings, (status,)))
        root.send(Attach("m", 1), [near.fileno()])
        near.close()
        _expect(root, Listening)
        found = _clients(listener.getsockname(), streams, proxy.pid, _post(body, path), streams * steps)
        root.send(Stop(5.0))
        assert proxy.wait(10) == 0
        return found
    finally:
        for process in (proxy, worker):
            process.kill()
            process.wait()
        control.close()


def _start(part: str, sock: socket.socket, listener: socket.socket | None, *args: float) -> subprocess.Popen[bytes]:
    fds = [sock.fileno()] + ([listener.fileno()] if listener else [])
    command = [sys.executable, "-m", "tests.bench.proxy_deltas", part, *map(str, fds), *map(str, args)]
    process = subprocess.Popen(command, pass_fds=fds)
    sock.close()
    return process


def _expect(root: Channel[Any], kind: type) -> None:
    """Waits for a message of the proxy, and takes what comes before."""
    while True:
        with selectors.DefaultSelector() as selector:
            selector.register(root, selectors.EVENT_READ)
            assert selector.select(20), "the proxy does not listen"
        received = root.receive()
        if received and isinstance(received[0], kind):
            return


def _post(body: bytes, path: str = _PATH) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    return head % (path.encode(), len(body)) + body


def _clients(address: tuple[str, int], streams: int, pid: int, post: bytes, deltas: int) -> Result:
    socks = [socket.create_connection(address) for _ in range(streams)]
    before, start = _cpu(pid), 0.0
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            sock.setblocking(False)
            sock.sendall(post)
            selector.register(sock, selectors.EVENT_READ, bytearray())
        buffers = [key.data for key in selector.get_map().values()]
        while selector.get_map():
            for key, _ in selector.select(30):
                key.data.extend(key.fileobj.recv(1 << 20))  # type: ignore[union-attr]
                start = start or time.perf_counter()
                if key.data.endswith(b"0\r\n\r\n"):
                    selector.unregister(key.fileobj)
    seconds, cpu = time.perf_counter() - start, _cpu(pid) - before
    for sock in socks:
        sock.close()
    assert all(buffer.startswith(b"HTTP/1.1 200") and b'"error":{' not in buffer for buffer in buffers)
    return Result(deltas, sum(buffer.count(b'"content":"') for buffer in buffers), seconds, cpu)


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


# -- the other processes ----------------------------------------------------------------------------------------------


def _proxy(control: int, listener: int) -> int:
    from proxy.main import main
    from supervisor import log
    from supervisor.boot import Child

    log.setup("proxy-0")
    return main(Child("proxy-0", socket.socket(fileno=control)), socket.socket(fileno=listener))


def _worker(link: int, streams: int, steps: int, rate: float) -> None:
    sock = socket.socket(fileno=link)
    sock.sendall(encode([Hello(VERSION, 1)]))
    ids = _ids(sock, streams)
    begin: list[Event] = [Accepted(number, 9) for number in ids] + [Started(number, 0) for number in ids]
    end: list[Event] = [Finished(number, "eos", "", Timings(0, 9, 1.0, steps, 1.0)) for number in ids]
    step = encode([Delta(number, _TEXT) for number in ids])
    sock.sendall(encode(begin))
    begun = time.perf_counter()
    for index in range(steps):
        if rate:
            time.sleep(max(0.0, begun + index / rate - time.perf_counter()))
        sock.sendall(step)
    sock.sendall(encode(end))
    with contextlib.suppress(OSError):
        sock.recv(1)  # until the proxy ends


def _ids(sock: socket.socket, streams: int) -> list[int]:
    framer: Framer[Request] = Framer(Request)
    ids: list[int] = []
    while len(ids) < streams:
        ids += [request.id for request in framer.feed(sock.recv(1 << 20)) if isinstance(request, Generate)]
    return ids


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["proxy", control, listener]:
            sys.exit(_proxy(int(control), int(listener)))
        case ["worker", link, streams, steps, rate]:
            _worker(int(link), int(streams), int(steps), float(rate))
        case [streams, steps, rate]:
            print(run(int(streams), int(steps), float(rate)))
        case _:
            for row in rows():
                print(row)
