"""Streams that go on without their client, and the way back to them. API.md, 7.3."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects.fields import typed
from proxy.errors import ApiError, BadRequest
from proxy.relay import Broken, Far
from proxy.resumption import Found, Near
from proxy.routes import inbound
from proxy.services import Services
from proxy.sse import EventStream

HEADER = "X-Conversation-Id"
LONGEST = 512  # characters of an id
_LOADING = 2.0  # seconds after which it is worth asking again


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /v1/streams/lookup."""

    conversation_ids: Annotated[list[str], Meta(max_length=1000)] = []


async def resume(request: Request) -> Response:
    """The bytes of a stream from an offset on, then live. Raises ApiError."""
    found, who = services.of(request), context.of(request.scope)
    asked, start = _asked(request), _offset(request)
    answer, source = await found.resumption.find(who.owner, asked, start)
    if source is None:
        raise _refusal(found, answer, asked, start)
    return Resumed(source, found.config.server.stream_backlog_timeout, request.method == "HEAD")


async def end(request: Request) -> Response:
    """Cancels and forgets it; 204 also where there is none."""
    await services.of(request).resumption.drop(context.of(request.scope).owner, _asked(request))
    return Response(status_code=204)


async def lookup(request: Request) -> Response:
    body = typed(await inbound.json_body(request), Lookup)
    known = await services.of(request).resumption.lookup(context.of(request.scope).owner, body.conversation_ids)
    return inbound.answer(known)


class Resumed(Response):
    """The rest of a stream."""

    def __init__(self, source: Near | Far, patience: float, only_head: bool) -> None:
        self.source, self.patience, self.only_head = source, patience, only_head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.only_head:
            self.source.close()
            headers = {key.decode(): value.decode() for key, value in self.source.framing.head}
            await Response(headers=headers)(scope, receive, send)
            return
        await deliver(self.source, scope, receive, send, self.patience)


async def deliver(source: Near | Far, scope: Scope, receive: Receive, send: Send, patience: float) -> None:
    """Sends a client what comes from the source. Nothing at all if it never begins. Raises ClientGone."""
    cut = context.of(scope).cut
    stream = EventStream(
        send, ping=0.0, hold=0.0, patience=patience, note=lambda: "", stalled=cut, framing=source.framing
    )
    try:
        async with Connected(receive), stream, aclosing(source.follow()) as parts:
            async for data in parts:
                await (stream.write(data) if data else stream.open())
            if stream.opened:
                await stream.close()
    except Broken:
        cut()  # only the end of the connection can say that this is no whole answer
        await asyncio.sleep(0)
    finally:
        source.close()


def conversation_id(request: Request) -> str:
    """The id that a client has given its conversation, or "". Raises BadRequest."""
    text = request.headers.get(HEADER.lower(), "").strip()
    if len(text) > LONGEST or not text.isprintable():
        raise BadRequest(f"{HEADER}: expected at most {LONGEST} printable characters", HEADER)
    return text


def _asked(request: Request) -> str:
    text = request.query_params.get("conv_id", "")
    if not text or len(text) > LONGEST:
        raise BadRequest(f"conv_id: expected the {HEADER} of a stream, got {text[:40]!r}", "conv_id")
    return text


def _offset(request: Request) -> int:
    """Bytes that the client has: `from`, or what an EventSource says by itself."""
    text = request.query_params.get("from") or request.headers.get("last-event-id") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadRequest(f'from: expected the number of bytes received, got "{text[:40]}"', "from")
    return int(text)


def _refusal(found: Services, answer: Found, asked: str, start: int) -> ApiError:
    match answer.state:
        case "loading":
            return ApiError("starting", "the stream has not begun: its model is not ready", retry_after=_LOADING)
        case "lost":
            text = f"Stream offset lost: of {answer.total} bytes those at {start} are kept no more ([resume] buffer)"
            return BadRequest(text, "from")
        case "beyond":
            return BadRequest(f"from: the stream has {answer.total} bytes, got {start}", "from")
    text = f'no stream of conversation "{asked[:100]}" is kept: there was none, or it has expired'
    if died := _proxy_died(found):
        return ApiError("not_found", f"{text}, or it was lost: {died}", param="conv_id", cause="proxy_died")
    return ApiError("not_found", text, param="conv_id")


def _proxy_died(found: Services) -> str:
    """Of what the last proxy has died within the time that a stream would have been kept; "" if none has."""
    since = time.time() - found.config.resume.ttl
    fatal = [death.message for death in found.feed.deaths if not death.model and death.at > since]
    return fatal[-1] if fatal else ""


ROUTES = [
    Route("/v1/stream", resume),
    Route("/v1/stream", end, methods=["DELETE"]),
    Route("/v1/streams/lookup", lookup, methods=["POST"]),
]
