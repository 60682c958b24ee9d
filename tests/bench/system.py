"""Figures of the whole server, over HTTP, with SmolLM2: two models at once, what HTTP adds, swapping, memory."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.table import Row
from tests.e2e.server import SMOLLM2, Server

_TOKENS = 160
_TWO = "[placement]\nmax_models = {places}\n" + SMOLLM2.format(name="a") + SMOLLM2.format(name="b")


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), _TWO.format(places=2)) as server:
        for model in "ab":
            _generate(server.url, model, 4)
        yield _two_at_once(server.url)
        yield _added_by_http(server.url)
        yield from _memory(server)
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder), _TWO.format(places=1)) as server:
        yield _swap(server)


def _generate(
    url: str, model: str, tokens: int, prompt: str = "Tell me a long story about the sea."
) -> dict[str, float]:
    """Streams a completion: seconds to the first and last chunk, and the worker's own timings."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    begin, first = time.perf_counter(), 0.0
    timings: dict[str, float] = {}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=120) as response:
        assert response.status_code == 200, response.read()
        queue_ms = float(response.headers.get("x-queue-ms", 0))
        load_ms = float(response.headers.get("x-load-ms", 0))
        for line in response.iter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - begin
                timings = json.loads(line[6:]).get("timings") or timings
    last = time.perf_counter() - begin
    return {"first": first, "last": last, "queue_ms": queue_ms, "load_ms": load_ms, **timings}


def _rate(url: str, models: str) -> float:
    """Tokens per second of all models together, from the first start to the last end."""
    threads = [threading.Thread(target=_generate, args=(url, model, _TOKENS)) for model in models]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(models) * _TOKENS / (time.perf_counter() - begin)


def _two_at_once(url: str) -> Row:
    pairs = [(_rate(url, "a"), _rate(url, "ab")) for _ in range(5)]
    ratio = statistics.median(both / alone for alone, both in pairs)
    alone, both = (statistics.median(column) for column in zip(*pairs, strict=True))
    detail = f"{alone:.0f} tokens/s alone, {both:.0f} in sum; median of 5 pairs"
    return Row("two models at once ÷ one alone", f"{ratio:.2f}", detail, "≥ 0.80", ratio >= 0.8)


def _added_by_http(url: str) -> Row:
    """Wall time of a warm one-token request less the worker's own time for it."""
    body = json.dumps({"model": "a", "prompt": "The sea is", "max_tokens": 1, "temperature": 0})
    connection = HTTPConnection(url.removeprefix("http://"))  # a client that costs little itself

    def ask(method: str, path: str, body: str | None = None) -> tuple[float, dict[str, Any]]:
        begin = time.perf_counter()
        connection.request(method, path, body)
        reply = connection.getresponse().read()
        return (time.perf_counter() - begin) * 1000, json.loads(reply)

    added, health = [], []
    for _ in range(100):
        wall, reply = ask("POST", "/v1/completions", body)
        added.append(wall - reply["timings"]["prompt_ms"] - reply["timings"]["predicted_ms"])
        health.append(ask("GET", "/health")[0])
    connection.close()
    median, p95 = statistics.median(added), sorted(added)[95]
    way = "parse, pipe, tokenize, schedule, sample, pipe, reply"
    detail = f"p95 {p95:.1f} ms; {way}; GET /health: {statistics.median(health):.1f} ms"
    return Row("what HTTP and pipes add to a one-token request", f"{median:.1f} ms", detail)


def _memory(server: Server) -> Iterator[Row]:
    for role in ("root", "proxy-0"):
        pid = server.pid(role)
        assert pid is not None
        memory = psutil.Process(pid).memory_full_info()
        yield Row(
            f"memory of {role}", f"{memory.rss / 2**20:.0f} MiB", f"resident; {memory.uss / 2**20:.0f} MiB its own"
        )


def _swap(server: Server) -> Row:
    """With room for one model: a request for the other one, to its first token."""
    _generate(server.url, "a", 4)
    swaps = [_generate(server.url, model, 4) for model in "bababa"]
    first = statistics.median(swap["first"] for swap in swaps) * 1000
    load = statistics.median(swap["load_ms"] for swap in swaps)
    queue = statistics.median(swap["queue_ms"] for swap in swaps)
    prompt = statistics.median(swap["prompt_ms"] for swap in swaps)
    detail = f"drain and stop {queue - load:.0f} ms, load {load:.0f} ms, first token {first - queue:.0f} ms"
    return Row(
        "swap: request for B while A is loaded → B's first token",
        f"{first:.0f} ms",
        f"{detail} (prompt {prompt:.0f} ms)",
    )
