"""Anthropic's routes. API.md, 8."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.dialects import anthropic
from proxy.routes import inbound
from proxy.routes.generation import count, generate


async def messages(request: Request) -> Response:
    return await generate(request, anthropic.parse)


async def count_tokens(request: Request) -> Response:
    return inbound.answer(anthropic.counted(await count(request, anthropic.parse)))


ROUTES = [
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    Route("/messages/count_tokens", count_tokens, methods=["POST"]),
]
