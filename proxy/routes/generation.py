"""How a parsed request becomes an answer: one object, or a stream. The same for every dialect of the OpenAI family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.calls import Call
from proxy.connected import Connected
from proxy.dialects.reply import Plan, Reply
from proxy.errors import ApiError
from proxy.gate import Gate, Wait
from proxy.links import Ask
from proxy.routes import inbound
from proxy.running import Running
from proxy.sse import EventStream
from supervisor.config import Server
from worker.protocol import MAX_FRAME, Event

Parse = Callable[[dict[str, Any], str], Plan]


async def generate(request: Request, parse: Parse) -> Response:
    """Reads and parses the body, finds the model, and answers."""
    body = await inbound.json_body(request)
    plan = parse(body, context.of(request.scope).request_id)
    gate = inbound.gate(request, plan.fields.model)
    call = new_call(request, gate, plan.asks, plan.fields.stream)
    server = services.of(request).config.server
    return Stream(call, plan, server) if plan.fields.stream else Whole(call, plan)


def new_call(request: Request, gate: Gate, asks: Sequence[Ask], stream: bool = False) -> Call:
    """A call for this request; only a stream has a reader that can be slow."""
    who, server = context.of(request.scope), services.of(request).config.server
    limit = server.stream_backlog if stream else MAX_FRAME
    who.call = Call(gate, asks, Wait(limit, who.cut, inbound.autoload(request), who.admin))
    return who.call


async def only_event(request: Request, call: Call) -> Event:
    """The one event that answers a request for text. Raises ApiError, ClientGone."""
    found: list[Event] = []
    async with Connected(request.receive), aclosing(call.batches()) as batches:
        async for events in batches:
            found += events
    return found[-1]


def _held(scope: Scope, plan: Plan, call: Call, reply: Reply) -> AbstractContextManager[None]:
    """A client that streams may steer its completion, if it has said that it will."""
    if not plan.asks[0].reasoning_control:
        return nullcontext()
    running: Running = scope["app"].state.services.running
    return running.hold(reply.head["id"], call, context.of(scope))


class Whole(Response):
    """The answer as one object, once it is complete."""

    def __init__(self, call: Call, plan: Plan) -> None:
        self.call, self.plan = call, plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, reply = self.call, self.plan.reply(self.call.gate.name)
        async with Connected(receive), aclosing(call.batches()) as batches:
            async for events in batches:
                reply.collect((call.index(event), event) for event in events)
        await inbound.answer(reply.object())(scope, receive, send)


class Stream(Response):
    """The answer as server-sent events, while it comes into being."""

    def __init__(self, call: Call, plan: Plan, server: Server) -> None:
        self.call, self.plan, self.server = call, plan, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self.plan.fields.sse_ping_interval
        stream = EventStream(
            send,
            ping=self.server.sse_ping_interval if asked is None else max(0, asked),
            hold=self.server.stream_hold,
            patience=self.server.stream_backlog_timeout,
            note=self.call.note,
            stalled=context.of(scope).cut,
        )
        reply = self.plan.reply(self.call.gate.name)
        async with Connected(receive), stream:
            try:
                with _held(scope, self.plan, self.call, reply):
                    await self._write(stream, reply)
            except ApiError as error:
                if not stream.opened:
                    raise
                await stream.fail(error)

    async def _write(self, stream: EventStream, reply: Reply) -> None:
        call = self.call
        async with aclosing(call.batches()) as batches:
            async for events in batches:
                data = reply.records([(call.index(event), event) for event in events])
                if reply.done:
                    await stream.close(data)
                elif data:
                    await stream.write(data)
                else:
                    await stream.open()
