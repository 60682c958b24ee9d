"""One end of a control socket: a SOCK_SEQPACKET socket, on which a message and its descriptors arrive together.

What exceeds MAX_INLINE travels in a memfd that is sent along.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from supervisor.states import Message

MAX_INLINE = 60 * 1024  # measured: 212,000 bytes is the largest packet that passes; stay well below
MAX_FDS = 4

In = TypeVar("In")


class Closed(Exception):
    """The other end of the channel is gone, or a message could not be had whole: what follows would make no sense."""


class Channel(Generic[In]):
    """One end of a control socket. Never blocks: what cannot be sent now waits in order, up to `limit` messages."""

    def __init__(self, sock: socket.socket, incoming: Any, limit: int = 4096) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.limit = limit  # full: Closed is raised; a peer that takes nothing for so long is given up
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._waiting: list[tuple[bytes, list[int]]] = []
        self.starved = False  # what waits needs a descriptor, and there is none: room in the socket is no help

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def pending(self) -> bool:
        """Whether messages wait; `flush` sends them when there is room, or a descriptor."""
        return bool(self._waiting)

    @property
    def crowded(self) -> bool:
        """Whether messages wait for room in the socket; call `flush` when it is writable."""
        return bool(self._waiting) and not self.starved

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Sends, or keeps for `flush`, a message with copies of `fds`; the caller may close its own at once.

        Raises Closed; OSError if there are no descriptors left for the copies: then nothing was sent.
        """
        if len(self._waiting) >= self.limit:
            raise Closed("the peer does not read")
        payload = self._encoder.encode(message)
        self._waiting.append((payload, _copies(fds)))
        self.flush()

    def flush(self) -> bool:
        """Sends what waits; True if nothing is left. Raises Closed if the peer is gone."""
        while self._waiting:
            payload, fds = self._waiting[0]
            if len(payload) > MAX_INLINE:
                try:
                    fds.append(_memfd(payload))
                except OSError:
                    self.starved = True
                    return False
                self._waiting[0] = payload, fds = b"", fds
            self.starved = False
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            flag = b"m" if not payload else b"i"
            try:
                self.sock.sendmsg([flag, payload], ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                raise Closed(str(error)) from None
            for fd in fds:
                os.close(fd)
            self._waiting.pop(0)
        return True

    def receive(self) -> tuple[In, list[int]] | None:
        """The next message and its descriptors, None if there is none now. Raises Closed, msgspec.DecodeError.

        A process that may open no more gets the message without any.
        """
        try:
            packet, fds, flags, _ = socket.recv_fds(self.sock, MAX_INLINE + 1024, MAX_FDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Closed(str(error)) from None
        if not packet:
            raise Closed("end of file")
        payload = packet[1:]
        if flags & socket.MSG_CTRUNC:  # some were lost, and which of them is not said
            for fd in fds:
                os.close(fd)
            fds = []
            if packet[:1] == b"m":
                raise Closed("no descriptors left for a message of the peer")
        if packet[:1] == b"m":
            payload = _read_memfd(fds.pop())
        return self._decoder.decode(payload), fds

    def close(self) -> None:
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()
        self.sock.close()


def _copies(fds: Sequence[int]) -> list[int]:
    """Raises OSError, and leaves none behind then."""
    copies: list[int] = []
    try:
        copies += (os.dup(fd) for fd in fds)
    except OSError:
        for copy in copies:
            os.close(copy)
        raise
    return copies


def _memfd(payload: bytes) -> int:
    fd = os.memfd_create("lsv-message")
    with open(fd, "wb", closefd=False) as file:
        file.write(payload)
    return fd


def _read_memfd(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()
