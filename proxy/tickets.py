"""Questions to the root that it answers later: each has a ticket, which the answer carries."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

from supervisor.control import Message

A = TypeVar("A")


class Tickets(Generic[A]):
    """Bounded by the requests that ask: each waits for `seconds` at most."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[A]] = {}

    async def ask(self, question: Callable[[int], Message], seconds: float) -> A:
        """The answer to a question that carries the ticket it is given. Raises TimeoutError."""
        ticket = next(self._numbers)
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._open[ticket] = future
        self._send(question(ticket))
        try:
            async with asyncio.timeout(seconds):
                return await future
        finally:
            del self._open[ticket]

    def answer(self, ticket: int, answer: A) -> None:
        """It has come; too late, it is dropped."""
        future = self._open.get(ticket)
        if future is not None and not future.done():
            future.set_result(answer)
