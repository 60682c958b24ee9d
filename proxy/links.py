"""One client per worker: the Pipe's descriptor as an asyncio transport, request numbers → streams.

    Link      the connection; reads always, whatever its clients do
    Stream    the events of one call, which may hold several requests; handed over in batches, one batch per wake-up

A stream costs no task: the link appends to it and wakes its reader, so what arrives while the reader is busy coalesces.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

from msgspec.structs import replace

from proxy.errors import ApiError, ClientStalled
from supervisor.log import facts
from worker import protocol
from worker.protocol import (
    CallDelta,
    Cancel,
    Count,
    Counted,
    Delta,
    Detokenize,
    Embed,
    EndReasoning,
    Event,
    Failed,
    Finished,
    Framer,
    Generate,
    Hello,
    Look,
    ProtocolError,
    Reasoning,
    Render,
    Rendered,
    Request,
    Rerank,
    Seen,
    SlotAction,
    SlotDone,
    Started,
    Tokenize,
    Tokens,
)

Ask = Generate | Tokenize | Detokenize | Render | Count | Embed | Rerank | Look | SlotAction
_TEXT = (Delta, Reasoning, CallDelta)
_LAST = (Finished, Tokens, Rendered, Counted, Seen, SlotDone)  # what ends a request, Failed aside
_EVENT_BYTES = 64  # what an event weighs in a backlog, its text aside
_PROBABILITY_BYTES = 12  # the same of a token's probability
_ID_BYTES = 5  # the same of a token's id
HIGH_WATER = 2**20  # bytes not yet taken by the worker; above: its new requests get 429

log = logging.getLogger("proxy.links")


class Link(asyncio.Protocol):
    """The proxy's end of a link to one generation of a worker.

    `ready` is called once the worker has said hello, `ended` once when the link is over, with the reason and whether
    the peer broke the protocol.
    """

    def __init__(self, generation: int, ready: Callable[[], None], ended: Callable[[str, bool], None]) -> None:
        self.generation = generation
        self.greeted = False
        self.full = False  # the worker does not read fast enough
        self._ready, self._ended = ready, ended
        self._framer: Framer[list[Event]] = Framer(list[Event])
        self._streams: dict[int, Stream] = {}
        self._number = 0
        self._transport: asyncio.Transport | None = None

    async def connect(self, fd: int) -> None:
        """Takes over `fd`, one end of a stream socketpair."""
        sock = socket.socket(fileno=fd)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)
        finally:
            if not self.alive:
                # uvloop closes the descriptor, but lets go of `sock` only if the transport outlives this call; else
                # its end would close the number a second time, and with it whatever was opened there meanwhile
                sock.detach()

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def admits(self) -> bool:
        """Whether a request could be sent now."""
        return self.greeted and self.alive

    def send(self, request: Request) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(protocol.encode(request))

    def register(self, stream: Stream) -> int:
        """The number under which events reach this stream."""
        self._number += 1
        self._streams[self._number] = stream
        return self._number

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    def drop(self) -> None:
        """Closes the link from this side."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self.send(Hello(protocol.VERSION, self.generation))

    def data_received(self, data: bytes) -> None:
        try:
            for events in self._framer.feed(data):
                if self.greeted:
                    self._dispatch(events)
                else:
                    self._greet(events)
        except ProtocolError as error:
            self._break(str(error))

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def connection_lost(self, error: Exception | None) -> None:
        self._end(str(error) if error else "end of file", broken=False)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _dispatch(self, events: list[Event]) -> None:
        streams = self._streams
        for event in events:
            if isinstance(event, Hello):
                raise ProtocolError("a second hello")
            if stream := streams.get(event.id):  # none: cancelled, and the worker had not heard of it yet
                stream.push(event)

    def _greet(self, events: list[Event]) -> None:
        match events:
            case [Hello(version=protocol.VERSION, generation=self.generation), *rest]:
                self.greeted = True
                self._ready()
                self._dispatch(rest)
            case _:
                wanted = Hello(protocol.VERSION, self.generation)
                raise ProtocolError(f"expected {wanted}, got {str(events)[:200]}")

    def _break(self, reason: str) -> None:
        log.error("link broken %s", facts(generation=self.generation, reason=reason))
        self._end(reason, broken=True)
        self.drop()

    def _end(self, reason: str, broken: bool) -> None:
        ended, self._ended = self._ended, _ignore
        self.greeted = False
        ended(reason, broken)


def _ignore(reason: str, broken: bool) -> None:
    pass


def _refusal(event: Failed) -> ApiError:
    fields = {name: value for name, value in event.fields.items() if name not in ("code", "message", "self")}
    return ApiError(event.code, event.message, **fields)


class Stream:
    """The events of one call. Bounded by `limit` bytes of backlog: past it the call is cancelled and `stalled` called.

    `begun` says that the worker has started one of its requests, so that it must not be repeated elsewhere.
    """

    def __init__(self, link: Link, limit: int, stalled: Callable[[], None]) -> None:
        self.link = link
        self.begun = False
        self.first_slot = 0  # the number, as clients count them, of the first of the worker's slots
        self.numbers: tuple[int, ...] = ()
        self._limit, self._stalled = limit, stalled
        self._open: set[int] = set()
        self._events: list[Event] = []
        self._backlog = 0  # full: the slow client is cancelled
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    def send(self, asks: Sequence[Ask]) -> None:
        """Gives the requests their numbers and sends them. Raises ApiError if one is too large for a frame."""
        numbered = [self._numbered(ask) for ask in asks]
        self._open.update(self.numbers)
        try:
            for ask in numbered:
                self.link.send(ask)
        except ProtocolError:
            limit = protocol.MAX_FRAME
            raise ApiError("body_too_large", f"the prompt exceeds {limit} bytes", limit=limit) from None

    def _numbered(self, ask: Ask) -> Ask:
        """Numbers in a row: the request's own, then those of its further choices."""
        siblings = ask.siblings if isinstance(ask, Generate) else ()
        number, *rest = [self.link.register(self) for _ in range(1 + len(siblings))]
        self.numbers += (number, *rest)
        return replace(ask, id=number, siblings=tuple(rest)) if rest else replace(ask, id=number)

    async def batches(self) -> AsyncIterator[list[Event]]:
        """The events as they come, until every request has ended. Raises what `fail` was given; ApiError of Failed."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._events:
                if self._error is not None:
                    raise self._error
                if not self._open:
                    return
                self._waiter = loop.create_future()
                await self._waiter
                self._waiter = None
            events, self._events, self._backlog = self._events, [], 0
            if events:
                yield events

    def index(self, event: Event) -> int:
        """Which of the call's requests an event belongs to, from 0."""
        assert not isinstance(event, Hello)
        return event.id - self.numbers[0]

    def push(self, event: Event) -> None:
        """Takes one event from the link."""
        if self._error is not None:
            return
        if isinstance(event, Failed):
            self._finish(event.id)
            self._fail(_refusal(event))
            return
        if isinstance(event, Started) and event.slot >= 0:
            event = replace(event, slot=event.slot + self.first_slot)
        self._events.append(event)
        self._backlog += _EVENT_BYTES
        if isinstance(event, _TEXT):
            self._backlog += len(event.text)
            if isinstance(event, Delta) and (event.probs or event.ids):
                self._backlog += _PROBABILITY_BYTES * sum(1 + len(token.top) for token in event.probs or ())
                self._backlog += _ID_BYTES * len(event.ids or ())
            if self._backlog > self._limit:
                self._overflow()
        elif isinstance(event, Started):
            self.begun = True
        elif isinstance(event, _LAST):
            self._finish(event.id)
        self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the stream with an error, once its reader has taken what came before; one that has ended stays so."""
        if self._open or not self.numbers:
            self._fail(error)

    def close(self) -> None:
        """Forgets the stream; the worker is told to drop what has not ended."""
        for number in self._open:
            self.link.forget(number)
            self.link.send(Cancel(number))
        self._open.clear()

    def end_reasoning(self) -> None:
        """Of every request that has not ended."""
        for number in self._open:
            self.link.send(EndReasoning(number))

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self._wake()

    def _finish(self, number: int) -> None:
        self._open.discard(number)
        self.link.forget(number)

    def _overflow(self) -> None:
        self._events.clear()
        self._fail(ClientStalled("the client does not read"))
        self.close()
        self._stalled()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
