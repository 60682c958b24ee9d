"""Server-sent events: records, comments while there is silence, and the end of a stream. API.md, 1.5.

The head goes out with the first record, or after `hold` seconds, so that a request which fails early gets a plain
HTTP error. Timers are re-armed lazily: a record costs an attribute write, not a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import Send

from supervisor.config import Server

DONE = b"data: [DONE]\n\n"
_LINE_ENDS = [(char.encode(), rb"\u%04x" % ord(char)) for char in "\x85\u2028\u2029"]
_HEAD = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def record(data: bytes) -> bytes:
    """`data` is JSON on one line."""
    return b"data: %b\n\n" % data


def event(name: str, data: bytes) -> bytes:
    """A record with a name."""
    return b"event: %b\n%b" % (name.encode(), record(data))


def line(data: bytes) -> bytes:
    """`data` is JSON on one line, and on one for clients that take any of Unicode's line ends for one, too."""
    for char, escape in _LINE_ENDS:
        data = data.replace(char, escape)
    return data + b"\n"


def comment(text: str) -> bytes:
    """What clients ignore and middle boxes take for life."""
    return f": {text}\n\n".encode() if text else b":\n\n"


@dataclass(frozen=True)
class Framing:
    """The format of a stream. `ping` makes what is sent into silence, None where the format has nothing for it."""

    media_type: bytes
    ping: Callable[[str], bytes] | None

    @property
    def head(self) -> list[tuple[bytes, bytes]]:
        return [(b"content-type", self.media_type), *_HEAD]


SSE = Framing(b"text/event-stream; charset=utf-8", comment)
NDJSON = Framing(b"application/x-ndjson", None)


class EventStream:
    """Writes one stream. `note` is what a comment says; `stalled` is called if a write takes over `patience` seconds.

    An async context manager: on the way out its timers end. `ping`: seconds of silence before a comment, 0 = none.
    """

    def __init__(
        self,
        send: Send,
        *,
        ping: float,
        hold: float,
        patience: float,
        note: Callable[[], str],
        stalled: Callable[[], None],
        framing: Framing = SSE,
    ) -> None:
        self.opened = False
        self._send, self._framing, self._patience = send, framing, patience
        self._ping = ping if framing.ping else 0.0
        self._note, self._stalled = note, stalled
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._held_until = self._last + hold
        self._writing = False  # one write at a time: nothing cuts into the order of head and records
        self._next: list[asyncio.Future[None]] = []  # writes that wait for it
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._comment: asyncio.Task[None] | None = None

    @classmethod
    def of_events(cls, send: Send, server: Server, cut: Callable[[], None], framing: Framing = SSE) -> EventStream:
        """A stream of what happens: its head goes out at once; `cut` ends a connection whose client does not read."""
        return cls(
            send,
            ping=server.events_ping_interval,
            hold=0.0,
            patience=server.stream_backlog_timeout,
            note=lambda: "",
            stalled=cut,
            framing=framing,
        )

    async def __aenter__(self) -> EventStream:
        self._arm(self._watch, self._patience)
        if self._ping:
            self._arm(self._hush, self._ping)
        return self

    async def __aexit__(self, *_: object) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self._comment is not None:
            self._comment.cancel()

    async def open(self) -> None:
        """Sends the head, if it has not gone out."""
        if not self.opened:
            await self._put(None)

    async def write(self, data: bytes) -> None:
        """Sends records, the head before them if it has not gone out. Waits while the client does not read."""
        await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def close(self, data: bytes = b"") -> None:
        """Sends the last records and ends the response."""
        await self._put({"type": "http.response.body", "body": data, "more_body": False})

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _put(self, message: dict[str, Any] | None) -> None:
        """Sends a part of the body, or nothing but the head."""
        while self._writing:  # a lock would cost a record six calls
            self._next.append(turn := self._loop.create_future())
            await turn
        self._writing = True
        try:
            self._last = self._loop.time()
            if not self.opened:
                self.opened = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._framing.head})
            if message is not None:
                await self._send(message)
        finally:
            self._writing = False
            if self._next:
                self._wake()

    def _wake(self) -> None:
        waiting, self._next = self._next, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _arm(self, action: Callable[[], None], seconds: float) -> None:
        self._timers[action] = self._loop.call_later(seconds, action)

    def _hush(self) -> None:
        """A comment, if nothing has been sent for the interval; the head waits for the end of its hold."""
        now = self._loop.time()
        rest = self._last + self._ping - now
        if not self.opened and now < self._held_until:
            rest = min(self._ping, self._held_until - now)
        elif rest <= 0:
            rest = self._ping
            if not self._writing:
                assert self._framing.ping is not None
                self._comment = self._loop.create_task(self.write(self._framing.ping(self._note())))
        self._arm(self._hush, rest)

    def _watch(self) -> None:
        """The client pays for not reading: its connection is cut."""
        rest = self._last + self._patience - self._loop.time()
        if rest <= 0 and self._writing:
            self._stalled()
        else:
            self._arm(self._watch, rest if rest > 0 else self._patience)
