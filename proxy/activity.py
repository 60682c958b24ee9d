"""The requests of this process: those that run, and the last that have ended. Never what was said in them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from proxy.calls import Call
from proxy.context import Context
from proxy.errors import ApiError

KEPT = 500  # ended requests that each proxy remembers


class Viewer(msgspec.Struct, frozen=True):
    """Who looks. Admins see all requests, a key its own; without keys everybody is an admin."""

    key: str = ""
    admin: bool = False

    def sees(self, owner: str) -> bool:
        return self.admin or self.key == owner


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request as the views show it. `since` is Unix time; milliseconds count from there; None: not known (yet).

    `client` is its address, `sent_bytes` how much of the answer it was sent; `processed`: tokens of the prompt that are
    in the KV cache. `outcome`: "ok", an error's code, or how the client left; "" while it runs.
    """

    id: str
    completion_id: str | None = None
    model: str
    endpoint: str
    method: str = "POST"
    stream: bool
    state: str
    since: float
    client: str | None = None
    sent_bytes: int | None = None
    key: str | None = None
    queue_position: int | None = None
    queue_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    total_ms: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    processed: int | None = None
    generated: int | None = None
    outcome: str | None = None
    status: int | None = None


@dataclass(eq=False)
class Running:
    """A request that has come as far as to a call."""

    context: Context
    call: Call
    endpoint: str
    method: str
    stream: bool
    since: float = field(default_factory=time.time)

    @property
    def owner(self) -> str:
        return self.context.owner

    def named(self, id: str) -> bool:
        """Whether this is its X-Request-Id, or the id of its completion."""
        return id in (self.context.request_id, self.call.answer.completion_id if self.call.answer else "")

    def row(self, *, ended: bool = False) -> Row:
        call, context = self.call, self.context
        counts = call.answer.counts if call.answer else None
        known = counts if counts and (call.queue_ms is not None) else None
        return Row(
            id=context.request_id,
            completion_id=(call.answer.completion_id or None) if call.answer else None,
            model=context.model,
            endpoint=self.endpoint,
            method=self.method,
            client=context.client or None,
            sent_bytes=context.sent,
            stream=self.stream,
            state="done" if ended else call.state,
            since=self.since,
            key=self.owner or None,
            queue_position=None if ended else call.gate.place(call.wait),
            queue_ms=_ms(call.queue_ms),
            load_ms=_ms(call.load_ms),
            first_ms=_ms(call.first_ms),
            total_ms=_ms((time.monotonic() - context.began) * 1000) if ended else None,
            prompt_tokens=known.prompt if known else None,
            cached_tokens=known.cached if known else None,
            processed=None if ended else call.processed,
            generated=known.generated if known else None,
            outcome=(context.outcome or "ok") if ended else None,
            status=context.told_status if ended else None,
        )


class Activity:
    """One per process; other processes are asked through proxy.peers."""

    def __init__(self) -> None:
        self._running: dict[Context, Running] = {}
        self._ended: deque[tuple[str, Row]] = deque(maxlen=KEPT)  # with the owner
        self._news = asyncio.Event()

    def begin(self, context: Context, call: Call, endpoint: str, method: str, stream: bool) -> None:
        self._running[context] = Running(context, call, endpoint, method, stream)
        self._tell()

    def end(self, context: Context) -> None:
        """The request has been answered, or given up."""
        if (running := self._running.pop(context, None)) is not None:
            self._ended.append((running.owner, running.row(ended=True)))
            self._tell()

    async def change(self) -> None:
        """Returns when a request has begun or ended."""
        await self._news.wait()

    def running(self, viewer: Viewer) -> Iterator[Row]:
        """Those that run, oldest first."""
        return (each.row() for each in self._running.values() if viewer.sees(each.owner))

    def ended(self, viewer: Viewer) -> Iterator[Row]:
        """The last that have ended, oldest first."""
        return (row for owner, row in self._ended if viewer.sees(owner))

    def cancel(self, id: str, viewer: Viewer) -> bool:
        """Ends the request of this id with the error `cancelled`; False if the viewer has none."""
        ended = 0
        for each in self._running.values():
            if viewer.sees(each.owner) and each.named(id):  # an id that a client chose may be on several
                ended += each.call.cancel(ApiError("cancelled", "cancelled by POST /requests/{id}/cancel"))
        return ended > 0

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
