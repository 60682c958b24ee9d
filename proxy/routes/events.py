"""GET /models/sse: what happens to the models, as it happens. API.md, 2.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects.reply import encode
from proxy.feed import EVERYBODY, Feed, Reader, Record
from proxy.routes.models import shown
from proxy.services import Services
from proxy.sse import SSE, EventStream


async def events(request: Request) -> Response:
    if request.method == "HEAD":
        return Response(headers={key.decode(): value.decode() for key, value in SSE.head})
    found, key = services.of(request), context.of(request.scope).key

    def visible(model: str) -> list[str]:
        """The ids of this model that the client may see."""
        return [id for id in found.models.faces(model) if key is None or key.sees(id)]

    return Watch(request, found, visible)


class Watch(Response):
    """The stream of one client."""

    def __init__(self, request: Request, found: Services, visible: Callable[[str], list[str]]) -> None:
        self.services, self.visible = found, visible
        self.last_id = request.headers.get("last-event-id", "")
        self.wanted = request.query_params.get("snapshot") not in ("0", "false")
        self.request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed, server = self.services.feed, self.services.config.server
        stream = EventStream.of_events(send, server, context.of(scope).cut)
        async with Connected(receive), stream:
            reader = feed.subscribe(self.sees)
            try:
                await self._write(stream, feed, reader)
            finally:
                feed.unsubscribe(reader)

    def sees(self, model: str) -> bool:
        return bool(self.visible(model))

    async def _write(self, stream: EventStream, feed: Feed, reader: Reader) -> None:
        missed = feed.missed(self.last_id, self.sees)
        if missed is not None:
            records = [self._record(record) for record in missed]
        else:
            known = feed.snapshot(self.sees) if self.wanted else []
            # Only the last one bears an id: whoever has seen half of them knows nothing.
            records = [self._record(record, snapshot=True, id=record is known[-1]) for record in known]
        await stream.open()
        if records:
            await stream.write(b"".join(records))
        while found := await reader.take():
            await stream.write(b"".join(map(self._record, found)))
        await stream.close()

    def _record(self, record: Record, snapshot: bool = False, id: bool = True) -> bytes:
        """The record under each name of its model; the last one bears the id."""
        names = [EVERYBODY] if record.model == EVERYBODY else self.visible(record.model)
        return b"".join(self._named(record, name, snapshot, id and name == names[-1]) for name in names)

    def _named(self, record: Record, name: str, snapshot: bool, id: bool) -> bytes:
        data: dict[str, Any] = dict(record.data or {})
        if snapshot:
            data["snapshot"] = True
        if not context.of(self.request.scope).admin:
            data.pop("log_tail", None)
        if record.info and record.status is not None and record.model in self.services.models.entries:
            data["info"] = shown(self.request, record.status, name)
        about = {"model": name, "event": record.event}
        body = encode(about if record.data is None else about | {"data": data})
        head = f"id: {self.services.feed.boot}.{record.number}\n".encode() if id else b""
        return b"%bdata: %b\n\n" % (head, body)


ROUTES = [Route("/models/sse", events)]
