"""Ollama's routes. API.md, 9."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects import ollama, ollama_embed, ollama_models, ollama_names
from proxy.dialects.fields import typed
from proxy.dialects.keep_alive import Kept
from proxy.dialects.management import OllamaNamed
from proxy.dialects.ollama_models import About
from proxy.dialects.ollama_reply import loaded
from proxy.dialects.reply import encode
from proxy.dialects.results import FINGERPRINT
from proxy.errors import ApiError, BadRequest
from proxy.gate import Gate
from proxy.routes import inbound, vectors
from proxy.routes.generation import generate_from, new_call
from proxy.sse import NDJSON
from supervisor.card import Card
from supervisor.control import State

_LOADED = {State.READY, State.DRAINING}


async def version(request: Request) -> Response:
    found = services.of(request).config.server.ollama_version
    return inbound.answer({"version": found, "commit": FINGERPRINT, "build_date": ""})


async def tags(request: Request) -> Response:
    return inbound.answer({"models": [ollama_models.tag(_about(request, id, gate)) for id, gate in _seen(request)]})


async def ps(request: Request) -> Response:
    found = [(id, gate) for id, gate in _seen(request) if gate.status.state in _LOADED]
    found.sort(key=lambda pair: -(pair[1].expires_at or float("inf")))  # the longest that stays first
    rows = [ollama_models.process(_about(request, id, gate), gate.expires_at) for id, gate in found]
    return inbound.answer({"models": rows})


async def show(request: Request) -> Response:
    gate = gate_of(request, typed(await inbound.json_body(request), OllamaNamed).said)
    return inbound.answer(ollama_models.show(_about(request, _id(request), gate)))


async def chat(request: Request) -> Response:
    return await _generate(request, ollama.chat)


async def generate(request: Request) -> Response:
    return await _generate(request, ollama.generate)


async def embed(request: Request) -> Response:
    return await _embed(request, ollama_embed.parse, ollama_embed.empty)


async def embed_old(request: Request) -> Response:
    return await _embed(request, ollama_embed.parse_old, ollama_embed.empty_old)


async def _embed(
    request: Request,
    parse: Callable[[dict[str, Any], str], ollama_embed.EmbedPlan | None],
    empty: Callable[[str], dict[str, Any]],
) -> Response:
    id = context.of(request.scope).request_id
    plan, model, kept = await inbound.parsed(
        request, lambda body: (parse(body, id), body.get("model"), typed(body, Kept).kept)
    )
    gate = gate_of(request, model)
    if plan is not None:
        return await vectors.answer(request, new_call(request, gate, [plan.ask], kept=kept), plan)
    await _load(request, gate, kept)
    return inbound.answer(empty(_id(request)))


async def _generate(request: Request, parse: Callable[[dict[str, Any], str], ollama.Parsed]) -> Response:
    id = context.of(request.scope).request_id
    parsed, model = await inbound.parsed(request, lambda body: (parse(body, id), body.get("model")))
    gate = gate_of(request, model)
    if parsed.thinks and _about(request, _id(request), gate).thinks is False:
        raise BadRequest(f'"{_id(request)}" does not support thinking', "think")
    if parsed.plan is None:
        return await _only_load(request, parsed, gate)
    return generate_from(request, gate, parsed.plan)


async def _only_load(request: Request, parsed: ollama.Parsed, gate: Gate) -> Response:
    """Nothing is to be said: the model is loaded; with `keep_alive: 0` unloaded, which is not awaited."""
    unloads = parsed.fields.kept == 0
    if unloads:
        await services.of(request).models.command("unload", gate.name, context.of(request.scope).admin)
    else:
        await _load(request, gate, parsed.fields.kept)
    content = loaded(_id(request), parsed.shape, "unload" if unloads else "load")
    if not parsed.stream:
        return inbound.answer(content)
    return Response(encode(content) + b"\n", media_type=NDJSON.media_type.decode())


async def _load(request: Request, gate: Gate, kept: float | None) -> None:
    """Returns once the model is there."""
    call = new_call(request, gate, [], kept=kept)
    async with Connected(request.receive), aclosing(call.batches()) as batches:
        async for _ in batches:
            pass


def gate_of(request: Request, name: object) -> Gate:
    """The model by its name, with or without the tag `:latest`. Raises ApiError."""
    try:
        return inbound.gate(request, name)
    except ApiError as error:
        if not isinstance(name, str) or error.code != "model_not_found" or (bare := ollama_names.plain(name)) == name:
            raise
        try:
            return inbound.gate(request, bare)
        except ApiError:
            raise error from None  # with the name that the client knows


def _id(request: Request) -> str:
    """The model that the request has named, as its key knows it."""
    return context.of(request.scope).model


def _seen(request: Request) -> list[tuple[str, Gate]]:
    """The models that the key may see, by name."""
    return services.of(request).models.listed(context.of(request.scope).key)


def _about(request: Request, id: str, gate: Gate) -> About:
    entry = services.of(request).models.shown[id]
    return About(entry.model, gate.status.facts, entry.card or Card())


ROUTES = [
    Route("/api/version", version),
    Route("/api/tags", tags),
    Route("/api/ps", ps),
    Route("/api/show", show, methods=["POST"]),
    Route("/api/chat", chat, methods=["POST"]),
    Route("/api/generate", generate, methods=["POST"]),
    Route("/api/embed", embed, methods=["POST"]),
    Route("/api/embeddings", embed_old, methods=["POST"]),
]
