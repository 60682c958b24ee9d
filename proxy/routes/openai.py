"""OpenAI's generation routes. API.md, 4.1."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.dialects import openai_chat, openai_completions, responses
from proxy.routes import inbound
from proxy.routes.generation import count, generate


async def chat(request: Request) -> Response:
    return await generate(request, openai_chat.parse)


async def completions(request: Request) -> Response:
    return await generate(request, openai_completions.parse)


async def respond(request: Request) -> Response:
    return await generate(request, responses.parse)


async def count_chat(request: Request) -> Response:
    return inbound.answer(responses.counted(await count(request, openai_chat.parse)))


async def count_response(request: Request) -> Response:
    return inbound.answer(responses.counted(await count(request, responses.parse)))


ROUTES = [
    Route("/v1/chat/completions", chat, methods=["POST"]),
    Route("/chat/completions", chat, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/responses", respond, methods=["POST"]),
    Route("/responses", respond, methods=["POST"]),
    Route("/v1/chat/completions/input_tokens", count_chat, methods=["POST"]),
    Route("/chat/completions/input_tokens", count_chat, methods=["POST"]),
    Route("/v1/responses/input_tokens", count_response, methods=["POST"]),
    Route("/responses/input_tokens", count_response, methods=["POST"]),
]
