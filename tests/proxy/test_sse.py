from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from proxy.sse import EventStream


class Client:
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        self.took: list[Any] = []
        self.reads = asyncio.Event()

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        for _ in range(10 if "status" in message else 0):  # the head takes longer
            await asyncio.sleep(0)
        self.took.append(message["body"] if "body" in message else message["status"])


def stream(client: Client, ping: float = 0.0) -> EventStream:
    return EventStream(client.send, ping=ping, hold=0.0, patience=60.0, note=lambda: "", stalled=lambda: None)


async def test_nothing_cuts_into_head_and_records_of_several_writers() -> None:
    client = Client()
    async with stream(client) as found:
        writes = [asyncio.create_task(found.write(name)) for name in (b"a", b"b", b"c")]
        await asyncio.sleep(0)
        client.reads.set()
        await asyncio.gather(*writes)
        await found.close(b"d")
    assert client.took[0] == 200
    assert sorted(client.took[1:4]) == [b"a", b"b", b"c"]
    assert client.took[4:] == [b"d"]


async def test_a_writer_that_gives_up_leaves_its_turn_to_the_next() -> None:
    client = Client()
    async with stream(client) as found:
        first, second, third = (asyncio.create_task(found.write(name)) for name in (b"a", b"b", b"c"))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        client.reads.set()
        await asyncio.wait_for(third, 90)
    assert client.took[-1] == b"c"


async def test_a_comment_waits_for_nobody_and_does_not_come_into_a_record() -> None:
    client = Client()
    async with stream(client, ping=0.01) as found:
        record = asyncio.create_task(found.write(b"a"))
        await asyncio.sleep(0.1)
        assert not found._next, "a comment waits behind the record"
        client.reads.set()
        await record
        while len(client.took) < 3:
            await asyncio.sleep(0.01)
    assert client.took[:3] == [200, b"a", b":\n\n"]
