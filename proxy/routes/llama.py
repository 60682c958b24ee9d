"""llama.cpp's own routes: completion, infill, and text. API.md, 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.dialects import infill, llama, native_completion
from proxy.links import Ask
from proxy.routes import inbound
from proxy.routes.generation import generate, new_call, only_event
from worker.protocol import Event, Rendered, Tokens


async def completion(request: Request) -> Response:
    return await generate(request, native_completion.parse)


async def infilled(request: Request) -> Response:
    return await generate(request, infill.parse)


async def tokenize(request: Request) -> Response:
    event = await _text(request, llama.tokenize)
    assert isinstance(event, Tokens)
    return inbound.answer(llama.tokenized(event))


async def detokenize(request: Request) -> Response:
    event = await _text(request, llama.detokenize)
    assert isinstance(event, Rendered)
    return inbound.answer(llama.detokenized(event))


async def apply_template(request: Request) -> Response:
    event = await _text(request, llama.apply_template)
    assert isinstance(event, Rendered)
    return inbound.answer(llama.applied(event))


async def _text(request: Request, parse: Callable[[dict[str, Any]], Ask]) -> Event:
    """What the worker answers to the body's request."""
    ask, model = await inbound.parsed(request, lambda body: (parse(body), body.get("model")))
    return await only_event(request, new_call(request, inbound.gate(request, model), [ask]))


ROUTES = [
    Route("/completion", completion, methods=["POST"]),
    Route("/completions", completion, methods=["POST"]),
    Route("/infill", infilled, methods=["POST"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/apply-template", apply_template, methods=["POST"]),
]
