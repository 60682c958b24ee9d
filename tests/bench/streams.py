"""Streams over HTTP as their client sees them, measured with as little of the machine as a client can take.

The client shares the cores with the decode, and would pay for every record with a wake-up of its own. So it wakes once
for a good many records (SO_RCVLOWAT), notes the time and the bytes, and reads them after the clock has stopped.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import time
from dataclasses import dataclass, field

_WAKE = 2048  # bytes, about 14 tokens of /completion
_COUNT = re.compile(rb'"tokens_predicted":(\d+)')


@dataclass
class Seen:
    """What came over one connection: bytes, and when how many of them were there."""

    data: bytearray = field(default_factory=bytearray)
    wakes: list[tuple[float, int]] = field(default_factory=list)
    over: bool = False

    @property
    def tokens(self) -> list[tuple[float, int]]:
        """When how many tokens had been said."""
        found = []
        for when, size in self.wakes:
            if counts := _COUNT.findall(self.data, 0, size):
                found.append((when, int(counts[-1])))
        return found


@dataclass(frozen=True)
class Rate:
    """`speed`: tokens/s of all streams while all of them ran; `ahead`: the tokens that each had when that began."""

    speed: float
    ahead: list[int]


def run(port: int, body: dict[str, object], count: int, tokens: int) -> Rate:
    """So many streams of POST /completion at once, each until the first has this many tokens and more."""
    data = json.dumps({**body, "stream": True, "n_predict": tokens + count + 32}).encode()
    head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    seen: dict[socket.socket, Seen] = {}
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _WAKE)
            sock.sendall(head.encode() + data)
            selector.register(sock, selectors.EVENT_READ)
            seen[sock] = Seen()
        while not any(each.over for each in seen.values()):
            for key, _ in selector.select(120):
                assert isinstance(key.fileobj, socket.socket)
                _take(key.fileobj, seen[key.fileobj])
        for sock in seen:
            sock.close()
    return _rate([each.tokens for each in seen.values()])


def _take(sock: socket.socket, seen: Seen) -> None:
    data = sock.recv(65536)
    seen.data += data
    seen.wakes.append((time.perf_counter(), len(seen.data)))
    seen.over = not data  # the connection closes behind the reply: the end of the file is below any low-water mark


def _rate(streams: list[list[tuple[float, int]]]) -> Rate:
    begun, ended = max(found[0][0] for found in streams), min(found[-1][0] for found in streams)
    speed, ahead = 0.0, []
    for found in streams:
        (began, first), *_, (until, last) = [(when, said) for when, said in found if begun <= when <= ended]
        speed += (last - first) / (until - began)
        ahead.append(first)
    return Rate(speed, ahead)
