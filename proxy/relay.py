"""A conversation that another proxy process keeps: its bytes come over a socket, whose end the root has passed on.

    the keeper ── length, bytes ──▶ the one whose client has come back

Four bytes of length before each piece; a length of 0 is the proper end, so that a keeper that dies is no end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing

from proxy.conversations import Conversation
from proxy.sse import Framing
from proxy.tape import Lost

_LENGTH = struct.Struct("!I")


class Broken(Exception):
    """The stream has no proper end: what kept it is gone, or it has moved on too far."""


class Far:
    """The reading end of a conversation elsewhere. Closes its descriptor in any case; read it once."""

    def __init__(self, fd: int, framing: Framing) -> None:
        self.framing = framing
        self._socket = socket.socket(fileno=fd)

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Its bytes, as they come. Raises Broken."""
        reader, writer = await asyncio.open_unix_connection(sock=self._socket)
        try:
            yield b""
            while length := _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]:
                yield await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Broken from None
        finally:
            writer.close()

    def close(self) -> None:
        """If it was not read."""
        self._socket.close()


async def pour(conversation: Conversation, start: int, near: socket.socket) -> None:
    """Writes what follows the offset `start` to the other end, until there is no more, or nobody reads it."""
    near.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=near)
    gone = asyncio.ensure_future(reader.read(1))  # it never says anything
    copying = asyncio.ensure_future(_copy(conversation, start, writer))
    try:
        await asyncio.wait({gone, copying}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (gone, copying):
            task.cancel()
        await asyncio.gather(gone, copying, return_exceptions=True)
        writer.close()


async def _copy(conversation: Conversation, start: int, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(Lost, ConnectionError):
        async with aclosing(conversation.follow(start)) as parts:
            async for data in parts:
                if data:
                    writer.write(_LENGTH.pack(len(data)) + data)
                    await writer.drain()
        if not conversation.broken:
            writer.write(_LENGTH.pack(0))
            await writer.drain()
