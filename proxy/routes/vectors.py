"""Embeddings and reranking. API.md, 4.1 and 7.1."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, off_loop
from proxy.calls import Call
from proxy.connected import Connected
from proxy.dialects import embeddings, rerank
from proxy.dialects.fields import typed
from proxy.dialects.keep_alive import Kept
from proxy.dialects.vectors import VectorPlan
from proxy.routes import inbound
from proxy.routes.generation import new_call

_LARGE = 256 * 2**10  # bytes of numbers; writing more as JSON would hold up every stream for milliseconds


async def openai(request: Request) -> Response:
    return await _answer(request, embeddings.parse)


async def native(request: Request) -> Response:
    return await _answer(request, embeddings.parse_native)


async def reranked(request: Request) -> Response:
    return await _answer(request, rerank.parse)


async def _answer(request: Request, parse: Callable[[dict[str, Any], str], VectorPlan]) -> Response:
    """Reads and parses the body, has the vectors made, and answers."""
    id = context.of(request.scope).request_id
    plan, kept = await inbound.parsed(request, lambda body: (parse(body, id), typed(body, Kept).kept))
    gate = inbound.gate(request, plan.model)
    return await answer(request, new_call(request, gate, [plan.ask], kept=kept), plan)


async def answer(request: Request, call: Call, plan: VectorPlan) -> Response:
    """The answer that a plan asks for, once the vectors are there."""
    found = plan.found()
    call.answer = found
    async with Connected(request.receive), aclosing(call.batches()) as batches:
        async for events in batches:
            found.take(events)
            found.load_ms = call.load_ms or 0.0
    if found.size > _LARGE:
        content = await off_loop.run(plan.body, call.model, found)
    else:
        content = plan.body(call.model, found)
    return Response(content, media_type="application/json")


ROUTES = [
    Route("/v1/embeddings", openai, methods=["POST"]),
    Route("/embeddings", native, methods=["POST"]),
    Route("/embedding", native, methods=["POST"]),
    *(Route(path, reranked, methods=["POST"]) for path in ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")),
]
