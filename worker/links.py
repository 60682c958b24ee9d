"""The worker's end of a link to one proxy: frames in, events out; nothing here blocks, no thread, no selector.

While a proxy is slow its events wait here, and the deltas of one stream are merged: memory grows with streams, not
with tokens. RELIABILITY.md, 4.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from supervisor import recorder
from worker.protocol import (
    VERSION,
    CallDelta,
    Counted,
    Delta,
    Event,
    Failed,
    Finished,
    Framer,
    Hello,
    ProtocolError,
    Reasoning,
    Rendered,
    Request,
    Seen,
    SlotDone,
    Tokens,
    encode,
)

_READ = 256 * 1024
_BUFFER = 4 * 2**20  # asked for; the kernel gives what net.core.wmem_max allows
_TEXT = (Delta, Reasoning, CallDelta)  # those that follow each other in one stream are merged
_LAST = Finished | Failed | Tokens | Rendered | Counted | Seen | SlotDone  # no event follows these


class Gone(Exception):
    """The proxy has closed the link, or died."""


class Link:
    """Frames and events of one proxy. `push` and `attempt` may be called by any thread, all else by the I/O thread."""

    def __init__(self, number: int, fd: int, generation: int) -> None:
        self.number = number
        self.live: set[int] = set()  # ids of requests that still get events; touched under the lock
        self._sock = _adopt(fd)
        self._framer: Framer[Request] = Framer(Request)
        self._lock = threading.Lock()  # never held across a system call
        self._sending = threading.Lock()  # held by who sends, or closes
        self._generation = generation
        self._greeted = False
        self._waiting: list[Event | _Merged] = [Hello(VERSION, generation)]
        self._rows: dict[int, int] = {}  # of live requests, in the recorder
        self._deltas: dict[int, int] = {}  # id → place in `waiting` of its last event, if that is text
        self._out = memoryview(b"")

    def fileno(self) -> int:
        return self._sock.fileno()

    # -- in -------------------------------------------------------------------------------------------------------

    def read(self) -> Iterator[Request]:
        """What the proxy has sent since. Raises Gone, ProtocolError."""
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(str(error)) from None
        if not data:
            raise Gone("end of file")
        for request in self._framer.feed(data):
            if isinstance(request, Hello):
                self._greet(request)
            elif not self._greeted:
                raise ProtocolError(f"{type(request).__name__} before Hello")
            else:
                yield request

    def open(self, id: int, request_id: str = "") -> None:
        """A request begins. Raises ProtocolError if its id is in use."""
        with self._lock:
            if id in self.live:
                raise ProtocolError(f"request id {id} is in use")
            self.live.add(id)
            if request_id:
                self._rows[id] = recorder.begin(request_id)

    def forget(self, id: int) -> bool:
        """Nothing more is sent for this request; whether it was live."""
        with self._lock:
            if id not in self.live:
                return False
            self._close(id)
            if any(event.id == id for event in self._waiting if not isinstance(event, Hello)):
                self._waiting = [event for event in self._waiting if isinstance(event, Hello) or event.id != id]
                last = {e.id: at for at, e in enumerate(self._waiting) if not isinstance(e, Hello)}
                self._deltas = {e: at for e, at in last.items() if isinstance(self._waiting[at], (*_TEXT, _Merged))}
            return True

    def _close(self, id: int) -> None:
        """It gets no more events."""
        self.live.discard(id)
        recorder.end(self._rows.pop(id, -1))

    def _greet(self, hello: Hello) -> None:
        if (hello.version, hello.generation) != (VERSION, self._generation):
            raise ProtocolError(f"{hello} does not fit version {VERSION}, generation {self._generation}")
        self._greeted = True

    # -- out ------------------------------------------------------------------------------------------------------

    def push(self, events: Iterable[Event]) -> int:
        """Takes events of live requests, merging a Delta with the one that still waits; how many wait now."""
        with self._lock:
            waiting, deltas = self._waiting, self._deltas
            for event in events:
                id = event.id if not isinstance(event, Hello) else -1
                if id not in self.live:
                    continue
                if isinstance(event, _TEXT):
                    at = deltas.get(id)
                    if at is not None:
                        last = waiting[at]
                        if isinstance(last, _TEXT) and _continues(last, event):
                            last = waiting[at] = _Merged(last)
                        if isinstance(last, _Merged) and _continues(last.first, event):
                            last.add(event)
                            continue
                    deltas[id] = len(waiting)
                else:
                    deltas.pop(id, None)
                    if isinstance(event, _LAST):
                        self._close(id)
                waiting.append(event)
            return len(waiting)

    def write(self) -> bool:
        """Sends what it can; True if nothing is left. Raises Gone."""
        with self._sending:
            return self._write()

    def attempt(self) -> bool:
        """As `write`, for a thread that must not wait: False too if another one sends, or if the proxy is gone.

        The engine so spares itself a switch to the I/O thread, which would run beside the next decode and slow it:
        the proxy has the events while the batch is still made.
        """
        if not self._sending.acquire(blocking=False):
            return False
        try:
            return self._write()
        except Gone:
            return False  # the I/O thread will find out
        finally:
            self._sending.release()

    def close(self) -> None:
        with self._sending:
            self._sock.close()

    def _write(self) -> bool:
        while True:
            if not self._out:
                with self._lock:
                    events, self._waiting = self._waiting, []
                    self._deltas.clear()
                if not events:
                    return True
                self._out = memoryview(_frames([e.delta if isinstance(e, _Merged) else e for e in events]))
            try:
                sent = self._sock.send(self._out, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                raise Gone(str(error)) from None
            self._out = self._out[sent:]


class _Merged:
    """Deltas of one stream that wait together; joined once, when they are sent."""

    __slots__ = ("_ids", "_probs", "_texts", "_tokens", "first", "id")

    def __init__(self, first: Delta | Reasoning | CallDelta) -> None:
        self.first, self.id = first, first.id
        self._texts, self._tokens = [first.text], first.tokens
        self._probs = list(first.probs or ()) if isinstance(first, Delta) else []
        self._ids = list(first.ids or ()) if isinstance(first, Delta) else []

    def add(self, delta: Delta | Reasoning | CallDelta) -> None:
        self._texts.append(delta.text)
        self._tokens += delta.tokens
        if isinstance(delta, Delta):
            self._probs += delta.probs or ()
            self._ids += delta.ids or ()

    @property
    def delta(self) -> Delta | Reasoning | CallDelta:
        text = "".join(self._texts)
        if isinstance(self.first, Delta):
            return Delta(self.id, text, self._tokens, self._probs or None, self._ids or None)
        return replace(self.first, text=text, tokens=self._tokens)


def _continues(last: Delta | Reasoning | CallDelta, event: Delta | Reasoning | CallDelta) -> bool:
    """Whether the two are parts of one text."""
    if type(last) is not type(event):
        return False
    return not isinstance(last, CallDelta) or not isinstance(event, CallDelta) or last.index == event.index


def _frames(events: list[Event]) -> bytes:
    """One frame; several only where one would be too large, as after a long pause or for a huge Rendered."""
    try:
        return encode(events)
    except ProtocolError:
        if len(events) > 1:
            half = len(events) // 2
            return _frames(events[:half]) + _frames(events[half:])
        event = events[0]
        if isinstance(event, Delta) and (len(event.text) > 1 or len(event.probs or ()) > 1):
            half, probs = len(event.text) // 2, event.probs or []
            first = Delta(event.id, event.text[:half], event.tokens, probs[: len(probs) // 2] or None, event.ids)
            rest = Delta(event.id, event.text[half:], 0, probs[len(probs) // 2 :] or None)
            return _frames([first, rest])
        if isinstance(event, Reasoning | CallDelta) and len(event.text) > 1:
            half = len(event.text) // 2
            return _frames([replace(event, text=event.text[:half]), replace(event, text=event.text[half:], tokens=0)])
        assert not isinstance(event, Hello)
        return encode([Failed(event.id, "internal_error", "the answer is too large for a frame")])


def _adopt(fd: int) -> socket.socket:
    """The Pipe's end as a non-blocking socket with large buffers."""
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    os.set_inheritable(fd, False)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return sock
