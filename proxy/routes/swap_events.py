"""GET /api/events and the cancelling of requests in flight, for llama-swap's clients. API.md, 10."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.activity import Row
from proxy.connected import Connected
from proxy.dialects import llama_swap
from proxy.dialects.llama_swap import LogData, Snapshot, message
from proxy.logs import PROXY, UPSTREAM
from proxy.routes import inbound
from proxy.routes.requests import end, viewer
from proxy.services import Services
from proxy.sse import SSE, EventStream

_LOOK = 1.0  # seconds between two looks at the other processes' requests, and at how much has been sent
_SPACING = 0.1  # seconds between two looks, at least


async def events(request: Request) -> Response:
    if request.method == "HEAD":
        return Response(headers={key.decode(): value.decode() for key, value in SSE.head})
    return Events(request)


async def cancel(request: Request) -> Response:
    await end(request)
    return inbound.answer({"msg": "ok"})


class _Over(Exception):
    """The server stops, or what this client may see has changed: it shall come back."""


class Events(Response):
    """The stream of one client: each kind is told as it was at first, then what changes."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.services: Services = services.of(request)
        self.who = context.of(request.scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = self.services.config.server
        stream = EventStream.of_events(send, server, self.who.cut)
        async with Connected(receive), stream:
            await stream.open()
            try:
                await self._tell(stream)
            except* _Over:
                await stream.close()

    async def _tell(self, stream: EventStream) -> None:
        parts: list[Coroutine[Any, Any, None]] = [self._models(stream), self._requests(stream)]
        if self.who.admin:
            parts += [self._log(stream, PROXY), self._log(stream, UPSTREAM)]
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)

    async def _models(self, stream: EventStream) -> None:
        feed, told = self.services.feed, b""
        reader = feed.subscribe(lambda model: True)
        try:
            while True:
                if (data := message("modelStatus", self._states())) != told:
                    await stream.write(data)
                    told = data
                if not await reader.take():
                    raise _Over
        finally:
            feed.unsubscribe(reader)

    def _states(self) -> list[llama_swap.ModelState]:
        models = self.services.models
        return [llama_swap.model_state(models.shown[id], gate.status) for id, gate in models.listed(self.who.key)]

    async def _requests(self, stream: EventStream) -> None:
        views, who = self.services.views, viewer(self.request)
        rows, now = await views.running(who), time.time()
        await stream.write(message("inflight", Snapshot([llama_swap.in_flight(row, now) for row in rows])))
        while True:
            before: dict[str, Row] = {row.id: row for row in rows}
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await views.activity.change()
            rows = await views.running(who)
            if changes := llama_swap.difference(before, rows, time.time()):
                await stream.write(b"".join(message("inflight", change) for change in changes))
            await asyncio.sleep(_SPACING)  # a crowd of requests costs no more looks than this

    async def _log(self, stream: EventStream, source: Any) -> None:
        async with aclosing(self.services.logs.follow(source, "", history=True)) as lines:
            async for text in lines:
                await stream.write(message("logData", LogData(source, text)))


ROUTES = [
    Route("/api/events", events),
    Route("/api/inflight/{id}/cancel", cancel, methods=["POST"]),
]
