"""The control channel to the root, on the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from supervisor.control import Channel, Closed, FromRoot, Message

Handler = Callable[[FromRoot, list[int]], None]


class Root:
    """Hands every message of the root to `handle`, with its descriptors; `closed` is called once the root is gone."""

    def __init__(self, sock: socket.socket, handle: Handler, closed: Callable[[str], None]) -> None:
        self._channel: Channel[FromRoot] = Channel(sock, FromRoot)
        self._handle, self._closed = handle, closed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._channel, self._read)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Sends, or keeps until there is room; the caller may close its `fds` at once. Never blocks, never raises."""
        try:
            self._channel.send(message, fds)
            self._flush_later()
        except Closed as error:
            self._end(error)

    def close(self) -> None:
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()

    def _read(self) -> None:
        try:
            while (received := self._channel.receive()) is not None:
                self._handle(*received)
        except Closed as error:
            self._end(error)

    def _flush(self) -> None:
        try:
            if self._channel.flush() or self._channel.starved:
                self._loop.remove_writer(self._channel)
        except Closed as error:
            self._end(error)

    def _flush_later(self) -> None:
        if self._channel.crowded:
            self._loop.add_writer(self._channel, self._flush)

    def _end(self, error: Closed) -> None:
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._closed(str(error))
