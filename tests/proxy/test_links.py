"""Links whose worker dies at the moment of the hand-over."""

from __future__ import annotations

import asyncio
import gc
import os
import socket

import pytest
import uvloop

from proxy.links import Link


@pytest.mark.parametrize("hello", [b"", b"\x00\x00\x00\x01\xff", b"\x7f\xff\xff\xff"])
def test_a_link_that_ends_at_once_closes_its_descriptor_once(hello: bytes) -> None:
    """A second close hits whatever got the number meanwhile: a client's connection, another worker's link."""

    async def hand_over() -> list[tuple[str, bool]]:
        ends: list[tuple[str, bool]] = []
        for _ in range(50):
            near, far = socket.socketpair()
            if hello:
                far.sendall(hello)
            far.close()
            fd = near.detach()
            await Link(1, lambda: None, lambda reason, broken: ends.append((reason, broken))).connect(fd)
            for _ in range(3):
                await asyncio.sleep(0)
            opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
            gc.collect()
            await asyncio.sleep(0)
            for other in opened:
                os.close(other)  # EBADF if the link has closed it
        return ends

    uvloop.run(asyncio.sleep(0))  # what the first loop of a process opens stays open
    before = len(os.listdir("/proc/self/fd"))
    gc.collect()
    gc.freeze()  # what is there already need not be looked through each time
    try:
        ends = uvloop.run(hand_over())
    finally:
        gc.unfreeze()
    assert len(ends) == 50
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
