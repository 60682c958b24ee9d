"""What the processes of the tree have logged: read from their rings, which nobody who writes has to wait for."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator

from supervisor import replicas, ring

LOOK = 0.2  # seconds between two looks, while somebody watches: a ring tells nobody that it has grown, so that a
# process which hangs or dies in the middle of a line harms no reader, and a slow reader no process
PROXY, UPSTREAM = "proxy", "upstream"  # all of them of a kind


class Logs:
    """The rings by their source: `root`, `proxy-N`, `w:MODEL`. A dead worker's stays until the model's next one."""

    def __init__(self) -> None:
        self.ended = False  # nobody is to follow any longer: the server stops
        self._rings: dict[str, tuple[int, int]] = {}  # a number of its own, the descriptor
        self._count = itertools.count(1)

    def take(self, source: str, fd: int) -> None:
        """A process has begun, or this proxy has: from now on this is its ring. The descriptor is this object's."""
        if source in self._rings:
            os.close(self._rings[source][1])
        self._rings[source] = next(self._count), fd

    def sources(self, which: str) -> list[str]:
        """Those of a kind (PROXY: root and proxies, UPSTREAM: workers), or "" for all."""
        if not which:
            return list(self._rings)
        return [source for source in self._rings if source.startswith("w:") == (which == UPSTREAM)]

    def of(self, model: str) -> list[str]:
        """Those of a model's workers."""
        return [source for source in self._rings if replicas.base(source) == f"w:{model}"]

    def tail(self, sources: list[str]) -> str:
        """The last lines of each, one source after the other; together at most as many bytes as one ring has."""
        share = ring.SIZE // max(1, len(sources))
        return "".join(self._text(source, self._since(source, 0)[0][-share:], len(sources) > 1) for source in sources)

    async def follow(self, which: str, model: str, *, history: bool) -> AsyncGenerator[str, None]:
        """What is there, unless `history` is false, and then what comes; of one model, or of the sources `which`."""
        at: dict[str, tuple[int, int]] = {}  # source → its ring's number, the position in it
        shown = history
        while not self.ended:
            sources = self.of(model) if model else self.sources(which)
            text = "".join([self._fresh(source, at, len(sources) > 1) for source in sources])
            if text and shown:
                yield text
            shown = True
            await asyncio.sleep(LOOK)

    def close(self) -> None:
        for _, fd in self._rings.values():
            os.close(fd)
        self._rings.clear()

    def _fresh(self, source: str, at: dict[str, tuple[int, int]], named: bool) -> str:
        """The whole lines that have come since the last look."""
        number = self._rings.get(source, (0, -1))[0]
        known, position = at.get(source, (0, 0))
        data, written = self._since(source, position if known == number else 0)
        whole = data[: data.rfind(b"\n") + 1]
        at[source] = number, written - (len(data) - len(whole))
        return self._text(source, whole, named)

    def _since(self, source: str, position: int) -> tuple[bytes, int]:
        found = self._rings.get(source)
        return (b"", 0) if found is None else ring.since(found[1], position)

    @staticmethod
    def _text(source: str, data: bytes, named: bool) -> str:
        """Printable lines, whatever the process has written; `named`: each says whose it is."""
        lines = [line for line in data.decode("utf-8", "replace").split("\n") if line.strip()]
        front = f"{source:<12} " if named else ""
        return "".join(front + "".join(char if char.isprintable() else "�" for char in line) + "\n" for line in lines)
