"""Clients that stream all the time from a thread of their own, and write down what they see."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType

import httpx

from tests.e2e.server import PATIENCE
from tests.faults.history import Entry

_LEAVES = 0.05  # how many clients go before the end
_TIMEOUT = PATIENCE
_PAUSE = 0.02  # after an error: a client that is refused does not hammer


class Crowd:
    """`with Crowd(url, "abc", 15, seed) as crowd:`; leaving it lets every stream come to its end."""

    def __init__(self, url: str, models: Sequence[str], streams: int, seed: int) -> None:
        self.entries: list[Entry] = []
        self._url, self._models, self._streams = url, models, streams
        self._draw = random.Random(seed)
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT + 10)
        assert not self._thread.is_alive(), "a stream never ends"

    def first_token(self, model: str, since: float) -> float | None:
        """When the first token came of a request that began after `since`; `model` "": any."""
        found = [
            entry.first
            for entry in list(self.entries)
            if entry.began >= since and entry.first is not None and model in ("", entry.model)
        ]
        return min(found, default=None)

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT, limits=limits, verify=False) as client:
            await asyncio.gather(*(self._client(client, number) for number in range(self._streams)))

    async def _client(self, client: httpx.AsyncClient, number: int) -> None:
        model = self._models[number % len(self._models)]
        while not self._stop.is_set():
            entry = self._next(model)
            self.entries.append(entry)
            leaves = self._draw.random() < _LEAVES
            try:
                await self._stream(client, entry, self._draw.randint(1, 8) if leaves else 0)
            except httpx.ConnectError as error:
                entry.error = {"message": repr(error)}
                entry.end("unreachable", time.monotonic())
            except httpx.HTTPError:
                entry.end("closed", time.monotonic())
            if entry.marks != ["done"]:
                await asyncio.sleep(_PAUSE)

    def _next(self, model: str) -> Entry:
        """A prompt like no other, so that a word of another's would show."""
        number, draw = next(self._numbers), self._draw
        words = " ".join(f"w{number}.{draw.randrange(10**6)}" for _ in range(draw.randint(5, 40)))
        options = json.dumps({"echo": {"rate": draw.choice([30, 60, 120])}})
        return Entry(model, f"{options} r{number} {words}", time.monotonic())

    async def _stream(self, client: httpx.AsyncClient, entry: Entry, most: int) -> None:
        """Reads one stream; a client that leaves does so after `most` tokens."""
        body = {"model": entry.model, "stream": True, "messages": [{"role": "user", "content": entry.prompt}]}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                entry.error = _error(await response.aread())
                entry.end("refused", time.monotonic())
                return
            tokens = 0
            async for line in response.aiter_lines():
                tokens += self._line(entry, line)
                if most and tokens >= most and not entry.marks:
                    entry.end("left", time.monotonic())
                    return
        if not entry.marks:
            entry.end("closed", time.monotonic())

    def _line(self, entry: Entry, line: str) -> int:
        """Takes one line; 1 if it was a token."""
        if line == "data: [DONE]":
            entry.end("done", time.monotonic())
        elif line.startswith("data: "):
            record = json.loads(line[6:])
            if "error" in record:
                entry.error = record["error"]
                entry.end("error", time.monotonic())
            elif record["choices"] and (piece := record["choices"][0]["delta"].get("content")):
                if entry.marks:
                    entry.marks.append("text after the end")
                entry.token(piece, time.monotonic())
                return 1
        return 0


def _error(body: bytes) -> dict[str, object]:
    try:
        found = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return dict(found) if isinstance(found, dict) else {}
