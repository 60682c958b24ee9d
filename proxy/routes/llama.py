"""llama.cpp's own routes: completion, infill, and text. API.md, 7."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.dialects import infill, llama, native_completion
from proxy.routes import inbound
from proxy.routes.generation import generate, new_call, only_event
from worker.protocol import Rendered, Tokens


async def completion(request: Request) -> Response:
    return await generate(request, native_completion.parse)


async def infilled(request: Request) -> Response:
    return await generate(request, infill.parse)


async def tokenize(request: Request) -> Response:
    body = await inbound.json_body(request)
    ask, gate = llama.tokenize(body), inbound.gate(request, body.get("model"))
    event = await only_event(request, new_call(request, gate, [ask]))
    assert isinstance(event, Tokens)
    return inbound.answer(llama.tokenized(event))


async def detokenize(request: Request) -> Response:
    body = await inbound.json_body(request)
    ask, gate = llama.detokenize(body), inbound.gate(request, body.get("model"))
    event = await only_event(request, new_call(request, gate, [ask]))
    assert isinstance(event, Rendered)
    return inbound.answer(llama.detokenized(event))


async def apply_template(request: Request) -> Response:
    body = await inbound.json_body(request)
    ask, gate = llama.apply_template(body), inbound.gate(request, body.get("model"))
    event = await only_event(request, new_call(request, gate, [ask]))
    assert isinstance(event, Rendered)
    return inbound.answer(llama.applied(event))


ROUTES = [
    Route("/completion", completion, methods=["POST"]),
    Route("/completions", completion, methods=["POST"]),
    Route("/infill", infilled, methods=["POST"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/apply-template", apply_template, methods=["POST"]),
]
