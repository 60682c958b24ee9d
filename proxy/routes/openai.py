"""OpenAI's generation routes. API.md, 4.1."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.dialects import openai_chat, openai_completions
from proxy.routes.generation import generate


async def chat(request: Request) -> Response:
    return await generate(request, openai_chat.parse)


async def completions(request: Request) -> Response:
    return await generate(request, openai_completions.parse)


ROUTES = [
    Route("/v1/chat/completions", chat, methods=["POST"]),
    Route("/chat/completions", chat, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
]
