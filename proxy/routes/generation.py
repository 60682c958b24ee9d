"""How a parsed request becomes an answer: one object, or a stream. The same for every dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.calls import Call
from proxy.connected import Connected
from proxy.dialects.answer import Answer
from proxy.dialects.reply import Plan
from proxy.errors import ApiError, ClientGone
from proxy.gate import Gate, Wait
from proxy.links import Ask
from proxy.manner import instructed
from proxy.resumption import Near, Resumption
from proxy.routes import inbound, streams
from proxy.running import Running
from proxy.sse import EventStream
from proxy.truncation import Truncated
from supervisor.config import Key, Server
from worker.protocol import MAX_FRAME, Chat, Count, Counted, Event, Generate

Parse = Callable[[dict[str, Any], str], Plan]


async def generate(request: Request, parse: Parse) -> Response:
    """Reads and parses the body, finds the model, and answers."""
    id = context.of(request.scope).request_id
    plan = await inbound.parsed(request, lambda body: parse(body, id))
    if plan.fields.verbose and context.of(request.scope).admin:
        plan = plan.explained()
    return generate_from(request, inbound.gate(request, plan.fields.model), plan)


async def count(request: Request, parse: Parse) -> Counted:
    """The tokens of a chat's prompt, by the body that would generate from it."""
    id = context.of(request.scope).request_id
    plan = await inbound.parsed(request, lambda body: parse(body, id))
    ask = plan.asks[0]
    assert isinstance(ask.prompt, Chat)
    gate = inbound.gate(request, plan.fields.model)
    event = await only_event(request, new_call(request, gate, [Count(0, ask.prompt)], kept=plan.fields.kept))
    assert isinstance(event, Counted)
    return event


def generate_from(request: Request, gate: Gate, plan: Plan) -> Response:
    """The answer that a plan asks for."""
    server, kind = services.of(request).config.server, Truncated if plan.truncates else Call
    owner, id = context.of(request.scope).owner, streams.conversation_id(request)
    call = new_call(request, gate, plan.asks, plan.fields.stream, plan.fields.kept, kind)
    resumption = services.of(request).resumption
    if plan.fields.stream and id and resumption.kept.settings.enabled:
        return Resumable(call, plan, server, resumption, owner, id)
    mention = resumption.kept.mention(owner, id, call) if id else nullcontext()
    return Stream(call, plan, server, mention) if plan.fields.stream else Whole(call, plan, mention)


def new_call(
    request: Request,
    gate: Gate,
    asks: Sequence[Ask],
    stream: bool = False,
    kept: float | None = None,
    kind: type[Call] = Call,
) -> Call:
    """A call for this request; only a stream has a reader that can be slow. `kept`: see Call."""
    who, server = context.of(request.scope), services.of(request).config.server
    limit = server.stream_backlog if stream else MAX_FRAME
    priority = who.key.priority if who.key is not None else 0
    wait = Wait(limit, who.stall, inbound.autoload(request), who.admin, priority)
    if who.key is not None and who.permit is None:
        who.permit = services.of(request).limits.admit(who.key)
        asks = [_of_key(ask, who.key) for ask in asks]
    if (entry := services.of(request).models.shown.get(who.model)) is not None:
        asks = [instructed(ask, entry.model) for ask in asks]
    who.call = kind(gate, asks, wait, kept, who.permit, who.model)
    services.of(request).views.activity.begin(who, who.call, request.scope["path"], request.method, stream)
    return who.call


def _of_key(ask: Ask, key: Key) -> Ask:
    """The request with what its key has it do where the engine must choose."""
    return replace(ask, priority=key.priority, owner=key.name) if isinstance(ask, Generate) else ask


async def only_event(request: Request, call: Call) -> Event:
    """The one event that answers a request for text. Raises ApiError, ClientGone."""
    found: list[Event] = []
    async with Connected(request.receive), aclosing(call.batches()) as batches:
        async for events in batches:
            found += events
    return found[-1]


def _held(scope: Scope, plan: Plan, call: Call, answer: Answer) -> AbstractContextManager[None]:
    """A client that streams may steer its completion, if it has said that it will."""
    ask = plan.asks[0]
    if not isinstance(ask, Generate) or not ask.reasoning_control:
        return nullcontext()
    running: Running = scope["app"].state.services.running
    return running.hold(answer.completion_id, call, context.of(scope))


async def _apart(work: Coroutine[Any, Any, None]) -> None:
    """Does the work in a task of its own, which ends with this one.

    Each event wakes a task from the outside in and sends it to sleep from the inside out; around an endpoint lie some
    twenty frames of middlewares, all of them cold where a decode on the same cores has had the cache.
    """
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_looked_at)
    await task


def _looked_at(task: asyncio.Task[None]) -> None:
    """What it raised is known even if its client has left in that moment."""
    if not task.cancelled():
        task.exception()


class Whole(Response):
    """The answer as one object, once it is complete. `mention`: what DELETE /v1/stream finds it by."""

    def __init__(self, call: Call, plan: Plan, mention: AbstractContextManager[None]) -> None:
        self.call, self.plan, self.mention = call, plan, mention

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, reply = self.call, self.plan.reply(self.call.model)
        call.answer = reply
        with self.mention:
            async with Connected(receive), aclosing(call.batches()) as batches:
                async for events in batches:
                    reply.load_ms = call.load_ms or 0.0
                    reply.collect((call.index(event), event) for event in events)
        await inbound.answer(reply.object())(scope, receive, send)


class Stream(Response):
    """The answer as server-sent events, while it comes into being. `mention`: as of Whole."""

    def __init__(self, call: Call, plan: Plan, server: Server, mention: AbstractContextManager[None]) -> None:
        self.call, self.plan, self.server, self.mention = call, plan, server, mention

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.mention:
            await _apart(self._serve(scope, receive, send))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with Connected(receive):
            await self.produce(self.plan.reply(self.call.model), scope, send)

    async def produce(self, answer: Answer, scope: Scope, send: Send) -> None:
        """Sends the answer as it comes. Raises ApiError if it fails before the head."""
        asked = self.plan.fields.sse_ping_interval
        self.call.answer = answer
        stream = EventStream(
            send,
            ping=self.server.sse_ping_interval if asked is None else max(0, asked),
            hold=self.server.stream_hold,
            patience=self.server.stream_backlog_timeout,
            note=self.call.note,
            stalled=context.of(scope).stall,
            framing=answer.framing,
        )
        async with stream:
            try:
                with _held(scope, self.plan, self.call, answer):
                    await self._write(stream, answer)
            except ApiError as error:
                if not stream.opened:
                    raise
                context.of(scope).outcome = error.code
                await stream.close(answer.failure(error))

    async def _write(self, stream: EventStream, answer: Answer) -> None:
        call = self.call
        async with aclosing(call.batches()) as batches:
            async for events in batches:
                answer.load_ms = call.load_ms or 0.0
                data = answer.records([(call.index(event), event) for event in events])
                if answer.done:
                    await stream.close(data)
                elif data:
                    await stream.write(data)
                else:
                    await stream.open()


class Resumable(Stream):
    """As Stream, but it goes on without its client, who may come back for the rest. API.md, 7.3."""

    def __init__(self, call: Call, plan: Plan, server: Server, resumption: Resumption, owner: str, id: str) -> None:
        super().__init__(call, plan, server, nullcontext())
        self.resumption, self.owner, self.id = resumption, owner, id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.plan.reply(self.call.model)
        self.resumption.supersede(self.owner, self.id)
        kept = self.resumption.kept.begin(self.owner, self.id, self.call, answer.framing)
        deliver = streams.deliver(Near(kept, 0), scope, receive, send, self.server.stream_backlog_timeout)
        client = asyncio.get_running_loop().create_task(deliver)
        try:
            await _apart(self.produce(answer, scope, kept.send))
        finally:
            kept.end(broken=True)  # unless it has its proper end
            if not kept.opened:
                self.resumption.kept.forget(kept)
            with suppress(ClientGone):  # its leaving ends nothing
                await client
        context.of(scope).status = context.of(scope).status or 200
