"""The front under many clients: small requests, each dialect's streams, thousands of slow streams at once."""

from __future__ import annotations

import json
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.bench import proxy_deltas
from tests.bench.table import Row
from tests.e2e.server import Server, until

_ECHO = """[models.{name}]
worker = "tests.echo_worker:main"
file = "rate={rate},tick={tick}"
parallel = 200
preload = true
"""
_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
_SECONDS = 4.0
_CHUNKS = 20_000  # a second and CPU, of OpenAI's chat
_MESSAGES = [{"role": "user", "content": "x"}]
_DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "OpenAI chat": ("/v1/chat/completions", {"messages": _MESSAGES}),
    "OpenAI completions": ("/v1/completions", {"prompt": "x"}),
    "OpenAI responses": ("/v1/responses", {"input": "x"}),
    "Anthropic messages": ("/v1/messages", {"messages": _MESSAGES}),
    "Ollama chat": ("/api/chat", {"messages": _MESSAGES}),
    "llama.cpp completion": ("/completion", {"prompt": "x"}),
}
_STREAMS, _MODELS, _RATE, _LONG = 2000, 10, 5.0, 20.0
_TICK = 0.02  # seconds of a step


def rows() -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder), _ECHO.format(name="m", rate=0, tick=0)) as server,
    ):
        until(lambda: server.state("m") == "ready", 60)
        for connections in (1, 64, 512):
            yield _small(server, connections)
    for name, (path, body) in _DIALECTS.items():
        yield _dialect(name, path, body)
    models = "".join(_ECHO.format(name=f"m{number}", rate=_RATE, tick=_TICK) for number in range(_MODELS))
    head = "max_connections = 4096\n[placement]\nmax_models = 0\n"
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), head + models) as server:
        until(lambda: all(server.state(f"m{number}") == "ready" for number in range(_MODELS)), 120)
        yield from _open_streams(server)


def _small(server: Server, connections: int) -> Row:
    """Each connection asks again as soon as it has its answer."""
    body = b'{"model":"m","content":"The sea is blue."}'
    sent = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    times: list[float] = []
    dropped, proxy = 0, psutil.Process(server.pid("proxy-0"))
    spent = sum(proxy.cpu_times()[:2])
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", server.port))
            selector.register(sock, selectors.EVENT_READ, [time.perf_counter(), b""])
            sock.sendall(sent)
        began = time.perf_counter()
        while time.perf_counter() < began + _SECONDS and selector.get_map():
            for key, _ in selector.select(5):
                sock, at = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                at[1] += (data := sock.recv(65536))
                if not data or not at[1].startswith(b"HTTP/1.1 200"):
                    selector.unregister(sock)
                    dropped += 1
                elif at[1].endswith(b"]}"):
                    now = time.perf_counter()
                    times.append(now - at[0])
                    at[:] = [now, b""]
                    sock.sendall(sent)
        seconds = time.perf_counter() - began
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    times.sort()
    cpu = (sum(proxy.cpu_times()[:2]) - spent) / max(1, len(times)) * 1e6
    p99 = times[int(len(times) * 0.99)] * 1000
    what = f"POST /tokenize, {connections} connection{'s' * (connections > 1)}"
    p50 = times[len(times) // 2] * 1000
    detail = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; proxy CPU {cpu:.0f} µs each; dropped {dropped}"
    return Row(what, f"{len(times) / seconds:,.0f} requests/s", detail, "0 dropped", dropped == 0)


def _dialect(name: str, path: str, body: dict[str, Any]) -> Row:
    sent = json.dumps(body | {"stream": True}).encode()
    found = proxy_deltas.run(streams=64, steps=600, rate=200, path=path, body=sent)
    rate = found.deltas / found.cpu
    goal, met = (f"≥ {_CHUNKS:,}", rate >= _CHUNKS) if name == "OpenAI chat" else ("", None)
    detail = f"64 streams, each token a chunk; {found.cpu_per_delta:.1f} µs each"
    return Row(f"chunks a second of proxy CPU, {name}", f"{rate:,.0f}", detail, goal, met)


def _open_streams(server: Server) -> Iterator[Row]:
    pid = server.pid("proxy-0")
    assert pid is not None
    proxy = psutil.Process(pid)
    before = proxy.memory_info().rss
    gaps, records, cpu = _listen(server, proxy)
    each = (proxy.memory_info().rss - before) / _STREAMS
    gaps.sort()
    p50, p99 = gaps[len(gaps) // 2] * 1000, gaps[int(len(gaps) * 0.99)] * 1000
    what = f"{_STREAMS:,} open streams at {_RATE:g} tokens/s each: between two tokens, p99"
    detail = f"p50 {p50:.0f} ms; {records / _LONG:,.0f} tokens/s in all; proxy CPU {cpu / _LONG * 100:.0f} %"
    yield Row(what, f"{p99:.0f} ms", detail, "≤ 250 ms", p99 <= 250)
    yield Row("memory of the proxy for each of them", f"{each / 1024:.0f} KiB", "resident, after all have begun")


def _listen(server: Server, proxy: psutil.Process) -> tuple[list[float], int, float]:
    """Gaps between the tokens of each stream, the tokens, and the proxy's CPU seconds, once all streams have begun."""
    gaps: list[float] = []
    with selectors.DefaultSelector() as selector:
        for number in range(_STREAMS):
            about = {"model": f"m{number % _MODELS}", "messages": _MESSAGES, "max_tokens": 10**6, "stream": True}
            sent = json.dumps(about).encode()
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.sendall(_HEAD % (len(sent), sent))
            selector.register(sock, selectors.EVENT_READ, [0.0])
        settled = time.perf_counter() + 60
        while time.perf_counter() < settled and not all(key.data[0] for key in selector.get_map().values()):
            _take(selector, None)
        assert all(key.data[0] for key in selector.get_map().values()), "not all streams have begun"
        _take(selector, None)
        began, spent = time.perf_counter(), sum(proxy.cpu_times()[:2])
        for key in selector.get_map().values():
            key.data[0] = 0.0
        while time.perf_counter() < began + _LONG:
            _take(selector, gaps)
        used = sum(proxy.cpu_times()[:2]) - spent
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return gaps, len(gaps), used


def _take(selector: selectors.BaseSelector, gaps: list[float] | None) -> None:
    for key, _ in selector.select(1):
        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
        tokens = data.count(b'"content":"')
        if tokens:
            now = time.perf_counter()
            if gaps is not None and key.data[0]:
                gaps.append(now - key.data[0])
                gaps.extend([0.0] * (tokens - 1))  # they came together
            key.data[0] = now


if __name__ == "__main__":
    for row in rows():
        print(row)
