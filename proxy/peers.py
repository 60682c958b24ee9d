"""Several proxies share the requests: what one does not know the others are asked, through the root.

    Proxy ── Inquiry ──▶ root ── Inquiry ──▶ every other proxy
    Proxy ◀── Finding ── root ◀── Finding ── each of them

The root passes the payloads on unread, and descriptors that come along. With one proxy nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from proxy.activity import Viewer
from supervisor.control import Finding, Inquired, Inquiry, Message

PATIENCE = 1.0  # seconds for the others; those that are silent so long are left out


class AskRunning(msgspec.Struct, frozen=True, tag=True):
    """Answered by Rows of the requests that run."""

    viewer: Viewer


class AskEnded(msgspec.Struct, frozen=True, tag=True):
    """Answered by Rows of the last requests that ended."""

    viewer: Viewer


class AskQueues(msgspec.Struct, frozen=True, tag=True):
    """Answered by a Queue for each model."""


class AskCancel(msgspec.Struct, frozen=True, tag=True):
    """Answered by whether there was such a request."""

    id: str
    viewer: Viewer


class AskKept(msgspec.Struct, frozen=True, tag=True):
    """Answered by Known of the conversations of this owner that go by one of these ids."""

    owner: str
    asked: list[str]


class AskDrop(msgspec.Struct, frozen=True, tag=True):
    """Cancel and forget this conversation; answered by whether something was cancelled."""

    owner: str
    asked: str
    why: str
    exactly: bool = False


class AskStream(msgspec.Struct, frozen=True, tag=True):
    """Answered by Found, with a descriptor from which the stream can be read if its state is "here"."""

    owner: str
    asked: str
    start: int


Question = AskRunning | AskEnded | AskQueues | AskCancel | AskKept | AskDrop | AskStream
A = TypeVar("A")


class Send(Protocol):
    """Sends a message to the root, with copies of descriptors."""

    def __call__(self, message: Message, fds: Sequence[int] = ()) -> None: ...


@dataclass(frozen=True)
class Handed:
    """An answer, and a descriptor that goes along; whoever sends it closes it."""

    answer: Any
    fd: int


@dataclass
class _Round:
    """One question's answers; `wanted` is not known until the root says it."""

    found: list[tuple[bytes, list[int]]] = field(default_factory=list)
    wanted: int | None = None
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        if self.wanted is not None and len(self.found) >= self.wanted:
            self.complete.set()


class Peers:
    """`answer` gives this process's own answer, which the others are told."""

    def __init__(self, send: Send, alone: bool, answer: Callable[[Question], Any]) -> None:
        self._send, self._alone, self._answer = send, alone, answer
        self._ticket = 0
        self._rounds: dict[int, _Round] = {}

    async def ask(self, question: Question, kind: type[A]) -> list[A]:
        """This process's answer, then those of the others that come in time."""
        own: A = self._answer(question)
        return [own, *(answer for answer, _ in await self.ask_others(question, kind))]

    async def ask_others(self, question: Question, kind: type[A]) -> list[tuple[A, list[int]]]:
        """The others' answers that come in time, with descriptors that came along, which are the caller's to close."""
        if self._alone:
            return []
        self._ticket += 1
        ticket, round_ = self._ticket, _Round()
        self._rounds[ticket] = round_
        self._send(Inquiry(ticket, msgspec.msgpack.encode(question)))
        try:
            async with asyncio.timeout(PATIENCE):
                await round_.complete.wait()
        except TimeoutError:
            pass
        except BaseException:
            close(fd for _, fds in round_.found for fd in fds)
            raise
        finally:
            del self._rounds[ticket]
        return [(msgspec.msgpack.decode(payload, type=kind), fds) for payload, fds in round_.found]

    def obey(self, message: Inquiry | Inquired | Finding, fds: list[int]) -> None:
        """What the root passes on."""
        if isinstance(message, Inquiry):
            self._reply(message)
        elif (round_ := self._rounds.get(message.ticket)) is None:
            close(fds)  # too late
        else:
            if isinstance(message, Inquired):
                round_.wanted = message.count
            else:
                round_.found.append((message.payload, fds))
            round_.check()

    def _reply(self, inquiry: Inquiry) -> None:
        question: Any = msgspec.msgpack.decode(inquiry.payload, type=Question)
        found, fds = self._answer(question), list[int]()
        if isinstance(found, Handed):
            found, fds = found.answer, [found.fd]
        finding = Finding(inquiry.ticket, msgspec.msgpack.encode(found), inquiry.origin)
        try:
            self._send(finding, fds)
        except OSError:  # no descriptors left: the asker finds that nothing came along
            self._send(finding)
        finally:
            close(fds)


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
