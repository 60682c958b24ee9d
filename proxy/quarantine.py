"""Requests under which a worker died, told from others by their content. RELIABILITY.md, 6: poison requests.

Client libraries repeat what failed with 5xx by themselves. One that was in a worker's hands in DEATHS crashes is turned
away for a time, so that it does not take the model's restarts with it. Who only waited is never blamed; neither is
anybody for a worker that was killed from outside. A request that is answered was not it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from proxy.errors import ApiError
from proxy.links import Ask
from worker.protocol import Embed, Generate, Rerank

DEATHS = 2
SECONDS = 600.0
MOST = 1000  # requests that are remembered; full: the oldest is forgotten
CRASHES = (
    "crashed",
    "exited",
    "hung",
    "oom_killed",
    "out_of_memory",
)  # causes of a death for which a request may be to blame


class Quarantine:
    """Of one model. `tell` is given each digest that is blamed, for the other proxies."""

    def __init__(self, tell: Callable[[bytes], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._blamed: dict[bytes, tuple[int, float]] = {}  # digest → deaths, and when the last one was

    def check(self, asks: Sequence[Ask]) -> None:
        """Raises ApiError if these requests have been in too many deaths."""
        if not self._blamed:
            return  # nothing is known: nothing is computed
        deaths, last = self._blamed.get(digest(asks), (0, 0.0))
        rest = last + SECONDS - self._clock()
        if deaths >= DEATHS and rest > 0:
            text = f"the worker died under this request {deaths} times; it is refused for {rest:.0f} s more"
            raise ApiError("request_quarantined", text, deaths=deaths, retry_in_s=round(rest, 1))

    def blame(self, asks: Sequence[Ask]) -> None:
        """A worker has died while it served these."""
        name = digest(asks)
        self.heard(name)
        self._tell(name)

    def heard(self, name: bytes) -> None:
        """The same, on whatever proxy."""
        now = self._clock()
        deaths, last = self._blamed.pop(name, (0, now))
        self._blamed[name] = (deaths + 1 if now - last < SECONDS else 1, now)
        if len(self._blamed) > MOST:
            del self._blamed[next(iter(self._blamed))]

    def clear(self, asks: Sequence[Ask]) -> None:
        """These were answered."""
        if self._blamed:
            self._blamed.pop(digest(asks), None)


def digest(asks: Sequence[Ask]) -> bytes:
    """What is the same whoever sends these requests, and whenever."""
    found = hashlib.blake2b(digest_size=16)
    for ask in asks:
        bare = replace(ask, id=0)
        if isinstance(bare, Generate):
            bare = replace(bare, owner="", priority=0, siblings=())
        if isinstance(bare, Generate | Embed | Rerank):
            bare = replace(bare, request_id="")
        found.update(msgspec.msgpack.encode(bare))
    return found.digest()
