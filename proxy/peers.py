"""Several proxies share the requests: what one does not know the others are asked, through the root.

    Proxy ── Inquiry ──▶ root ── Inquiry ──▶ every other proxy
    Proxy ◀── Finding ── root ◀── Finding ── each of them

The root passes the payloads on unread. With one proxy nothing is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

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


Question = AskRunning | AskEnded | AskQueues | AskCancel
A = TypeVar("A")


@dataclass
class _Round:
    """One question's answers; `wanted` is not known until the root says it."""

    found: list[bytes] = field(default_factory=list)
    wanted: int | None = None
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        if self.wanted is not None and len(self.found) >= self.wanted:
            self.complete.set()


class Peers:
    """`answer` gives this process's own answer, which the others are told."""

    def __init__(self, send: Callable[[Message], None], alone: bool, answer: Callable[[Question], Any]) -> None:
        self._send, self._alone, self._answer = send, alone, answer
        self._ticket = 0
        self._rounds: dict[int, _Round] = {}

    async def ask(self, question: Question, kind: type[A]) -> list[A]:
        """This process's answer, then those of the others that come in time."""
        own: A = self._answer(question)
        return [own] if self._alone else [own, *await self._others(question, kind)]

    async def _others(self, question: Question, kind: type[A]) -> list[A]:
        self._ticket += 1
        ticket, round_ = self._ticket, _Round()
        self._rounds[ticket] = round_
        self._send(Inquiry(ticket, msgspec.msgpack.encode(question)))
        try:
            async with asyncio.timeout(PATIENCE):
                await round_.complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._rounds[ticket]
        return [msgspec.msgpack.decode(payload, type=kind) for payload in round_.found]

    def obey(self, message: Inquiry | Inquired | Finding) -> None:
        """What the root passes on."""
        if isinstance(message, Inquiry):
            question: Any = msgspec.msgpack.decode(message.payload, type=Question)
            answer = msgspec.msgpack.encode(self._answer(question))
            self._send(Finding(message.ticket, answer, message.origin))
        elif (round_ := self._rounds.get(message.ticket)) is not None:
            if isinstance(message, Inquired):
                round_.wanted = message.count
            else:
                round_.found.append(message.payload)
            round_.check()
