"""Streams that outlive their connection: kept for the client that comes back, and only for it. API.md, 7.3.

    Conversations   those of this process, by the key that began them and the client's id
    └── Conversation    one stream: its call writes, any number of readers follow

The call's own answer is a reader like those that come back. Who reads too slowly loses its place, not the stream.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

import msgspec
from starlette.types import Message

from proxy.calls import Call
from proxy.errors import ApiError
from proxy.sse import Framing
from proxy.tape import Tape
from supervisor.config import Resume

AT_ONCE = 64 * 2**10  # bytes that a reader is given in one piece
SUPERSEDED = "a new request has the same X-Conversation-Id"
OVERHEAD = 4096  # bytes that a conversation weighs beside its tape, so that their number is bounded, too


class Known(msgspec.Struct, frozen=True):
    """A conversation as POST /v1/streams/lookup shows it. Unix seconds."""

    conversation_id: str
    is_done: bool
    total_bytes: int
    started_at: int
    completed_at: int | None = None


class Conversation:
    """One stream. `opened`: its head has gone out; `ended`: nothing more comes; `broken`: nor has it a proper end."""

    def __init__(self, owner: str, id: str, call: Call, framing: Framing, home: Conversations) -> None:
        self.owner, self.id, self.framing = owner, id, framing
        self.tape = Tape(home.settings.buffer)
        self.opened = self.ended = self.broken = False
        self.started_at, self.completed_at = time.time(), 0.0
        self._call: Call | None = call  # until it has ended: it has the whole prompt
        self._home = home
        self._readers = 0
        self._news = asyncio.Event()
        self._clock: asyncio.TimerHandle | None = None

    @property
    def weight(self) -> int:
        return OVERHEAD + self.tape.size

    @property
    def known(self) -> Known:
        done = int(self.completed_at) if self.ended else None
        return Known(self.id, self.ended, self.tape.end, int(self.started_at), done)

    # -- for the one that writes --------------------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        """As an ASGI connection's: takes head and body of the answer. Never waits."""
        self.opened = True
        if body := message.get("body", b""):
            before = self.tape.size
            self.tape.write(body)
            self._home.grown(self, self.tape.size - before)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.end()
        self._tell()

    def end(self, broken: bool = False) -> None:
        """Nothing more comes. A second end changes nothing."""
        if self.ended:
            return
        self.ended, self.broken, self.completed_at = True, broken, time.time()
        self._call = None
        self.retire()
        if self._home.keeps(self):
            self._set_clock(self._home.settings.ttl, lambda: self._home.forget(self))
        self._tell()

    # -- for those that read ------------------------------------------------------------------------------------------

    async def follow(self, start: int) -> AsyncGenerator[bytes, None]:
        """What follows the offset `start`, as it comes; b"" once the head has gone out. Raises Lost.

        Ends without anything if the stream never begins: its request has failed with an answer of its own.
        """
        self._readers += 1
        self._stop_clock_of_the_left()
        try:
            while not (self.opened or self.ended):
                await self._change()
            if self.opened:
                yield b""
            while True:
                if data := self.tape.read(start, AT_ONCE):
                    start += len(data)
                    yield data
                elif self.ended:
                    break
                else:
                    await self._change()
        finally:
            self._readers -= 1
            self.leave()

    def leave(self) -> None:
        """Nobody reads, if so: from now on the call has some time left, unless somebody comes."""
        if not (self._readers or self.ended):
            self._set_clock(self._home.settings.detached, self._give_up)

    def cancel(self, why: str) -> bool:
        """Ends the call, with an error record; False if it has ended already."""
        return self._call is not None and self._call.cancel(ApiError("cancelled", f"cancelled: {why}"))

    def retire(self) -> None:
        """It is forgotten; those that read it now read it to its end."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        seconds = self._home.settings.detached
        self.cancel(f"its client has left, and nobody came back within {seconds:g} s" if seconds else "its client left")

    def _stop_clock_of_the_left(self) -> None:
        if not self.ended:
            self.retire()

    def _set_clock(self, seconds: float, action: Callable[[], object]) -> None:
        self.retire()
        self._clock = asyncio.get_running_loop().call_later(seconds, action)

    async def _change(self) -> None:
        await self._news.wait()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Conversations:
    """One per process. Bounded for each owner by `memory`; full: what has ended goes, oldest first, then old bytes."""

    def __init__(self, settings: Resume) -> None:
        self.settings = settings
        self._kept: defaultdict[str, dict[str, Conversation]] = defaultdict(dict)  # by owner and id, oldest first
        self._weights: defaultdict[str, int] = defaultdict(int)
        self._calls: defaultdict[tuple[str, str], set[Call]] = defaultdict(set)

    def begin(self, owner: str, id: str, call: Call, framing: Framing) -> Conversation:
        """A new stream, in the place of any of this id that the owner has: that one is cancelled and forgotten."""
        self.drop(owner, id, SUPERSEDED, exactly=True)
        found = Conversation(owner, id, call, framing, self)
        self._kept[owner][id] = found
        self._weights[owner] += found.weight
        self.grown(found, 0)
        return found

    @contextmanager
    def mention(self, owner: str, id: str, call: Call) -> Iterator[None]:
        """While it lasts, DELETE /v1/stream finds the call."""
        calls = self._calls[owner, id]
        calls.add(call)
        try:
            yield
        finally:
            calls.discard(call)
            if not calls:
                self._calls.pop((owner, id), None)

    def find(self, owner: str, asked: str) -> Conversation | None:
        """The one of this id, else the latest that goes by it."""
        kept = self._kept.get(owner, {})
        return kept.get(asked) or next((kept[id] for id in reversed(kept) if meant(id, asked)), None)

    def lookup(self, owner: str, asked: list[str]) -> list[Known]:
        """All that go by one of these ids, oldest first."""
        kept = self._kept.get(owner, {}).values()
        return [each.known for each in kept if any(meant(each.id, id) for id in asked)]

    def drop(self, owner: str, asked: str, why: str, *, exactly: bool = False) -> int:
        """Cancels and forgets what has this id, or else goes by it; how many calls that were running have ended."""
        ids = {*self._kept.get(owner, {}), *(id for who, id in self._calls if who == owner)}
        if asked in ids or exactly:
            ids = {asked}
        ended = 0
        for id in [id for id in ids if meant(id, asked)]:
            if (found := self._kept.get(owner, {}).get(id)) is not None:
                ended += found.cancel(why)
                self.forget(found)
            if not exactly:
                for call in tuple(self._calls.get((owner, id), ())):
                    ended += call.cancel(ApiError("cancelled", f"cancelled: {why}"))
        return ended

    def keeps(self, one: Conversation) -> bool:
        return self._kept.get(one.owner, {}).get(one.id) is one

    def forget(self, gone: Conversation) -> None:
        if self.keeps(gone):
            kept = self._kept[gone.owner]
            del kept[gone.id]
            gone.retire()
            self._weights[gone.owner] -= gone.weight
            if not kept:
                del self._kept[gone.owner], self._weights[gone.owner]

    def grown(self, one: Conversation, by: int) -> None:
        """A tape weighs so much more: what is too much goes."""
        if not self.keeps(one):
            return  # forgotten, but read to its end
        self._weights[one.owner] += by
        if self._weights[one.owner] > self.settings.memory:
            self._relieve(one.owner, self._kept[one.owner])

    def _relieve(self, owner: str, kept: dict[str, Conversation]) -> None:
        for each in [each for each in kept.values() if each.ended]:
            if self._weights[owner] <= self.settings.memory:
                return
            self.forget(each)
        for each in tuple(kept.values()):
            surplus = self._weights[owner] - self.settings.memory
            if surplus <= 0:
                return
            before = each.tape.size
            each.tape.trim(max(0, before - surplus))
            self._weights[owner] -= before - each.tape.size


def meant(id: str, asked: str) -> bool:
    """Whether a conversation goes by what was asked for: ids may say for which model, "id::model", or leave it out."""
    return id == asked or id.startswith(f"{asked}::") or asked.startswith(f"{id}::")
