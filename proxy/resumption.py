"""Conversations of all proxies: this one's own, and those that the others keep, who are asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Literal, assert_never

import msgspec

from proxy.conversations import SUPERSEDED, Conversation, Conversations, Known
from proxy.peers import AskDrop, AskKept, AskStream, Handed, Peers, close
from proxy.relay import Broken, Far, pour
from proxy.sse import Framing
from proxy.tape import Lost

Question = AskKept | AskDrop | AskStream


class Found(msgspec.Struct, frozen=True):
    """What a proxy has of a conversation. `loading`: its head has not gone out; `lost`, `beyond`: no such offset."""

    state: Literal["here", "none", "loading", "lost", "beyond"]
    media_type: bytes = b""
    total: int = 0


class Near:
    """The reading end of a conversation of this process, from an offset on."""

    def __init__(self, conversation: Conversation, start: int) -> None:
        self.framing = conversation.framing
        self._conversation, self._start = conversation, start

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Its bytes, as they come; b"" when the head has gone out, nothing if it never does. Raises Broken."""
        try:
            async for data in self._conversation.follow(self._start):
                yield data
        except Lost:
            raise Broken from None
        if self._conversation.opened and self._conversation.broken:
            raise Broken

    def close(self) -> None:
        """If it was not read."""
        self._conversation.leave()


class Resumption:
    """What the routes ask. An owner is the name of a key, "" without keys."""

    def __init__(self, kept: Conversations) -> None:
        self.kept = kept
        self.peers: Peers
        self._tasks: set[asyncio.Task[object]] = set()

    # -- for routes ---------------------------------------------------------------------------------------------------

    def supersede(self, owner: str, id: str) -> None:
        """A new request has this id: what other processes have of it ends, soon."""
        question = AskDrop(owner, id, SUPERSEDED, exactly=True)
        self._keep(self.peers.ask_others(question, bool))

    async def drop(self, owner: str, asked: str) -> None:
        await self.peers.ask(AskDrop(owner, asked, "DELETE /v1/stream"), bool)

    async def lookup(self, owner: str, asked: list[str]) -> list[Known]:
        """Oldest first."""
        parts = await self.peers.ask(AskKept(owner, asked), list[Known])
        return sorted((each for part in parts for each in part), key=lambda each: each.started_at)

    async def find(self, owner: str, asked: str, start: int) -> tuple[Found, Near | Far | None]:
        """Where it is and, if it is there, what to read it from: to be read, or closed."""
        own = self.kept.find(owner, asked)
        if own is not None:
            found = _found(own, start)
            return found, Near(own, start) if found.state == "here" else None
        best: tuple[Found, Near | Far | None] = Found("none"), None
        for answer, fds in await self.peers.ask_others(AskStream(owner, asked, start), Found):
            if best[1] is None and answer.state == "here" and fds:
                best = answer, Far(fds.pop(), Framing(answer.media_type, None))
            elif best[0].state == "none" and answer.state != "here":
                best = answer, None
            close(fds)
        return best

    # -- for the other proxies ----------------------------------------------------------------------------------------

    def answer(self, question: Question) -> Any:
        """This process's own answer."""
        match question:
            case AskKept(owner, asked):
                return self.kept.lookup(owner, asked)
            case AskDrop(owner, asked, why, exactly):
                return self.kept.drop(owner, asked, why, exactly=exactly) > 0
            case AskStream(owner, asked, start):
                own = self.kept.find(owner, asked)
                found = _found(own, start) if own else Found("none")
                return self._handed(own, start, found) if own and found.state == "here" else found
            case _:
                assert_never(question)

    def _handed(self, own: Conversation, start: int, found: Found) -> Handed | Found:
        try:
            near, far = socket.socketpair()
        except OSError:  # no descriptors left
            return Found("none")
        self._keep(pour(own, start, near))
        return Handed(found, far.detach())

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _found(own: Conversation, start: int) -> Found:
    media_type, total = own.framing.media_type, own.tape.end
    if not own.opened:
        own.leave()  # whoever asks is still there: its time begins anew
        return Found("loading", media_type, total)
    if start > total:
        return Found("beyond", media_type, total)
    return Found("lost" if start < own.tape.floor else "here", media_type, total)
