"""Lists of models; load and unload on demand. API.md, 2."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects.model_object import model_object
from proxy.errors import ApiError, BadRequest, Unsupported
from proxy.gate import Gate
from proxy.refusals import queue_timeout
from proxy.routes import inbound
from supervisor.control import ModelStatus, State

_UNLOADED = {State.UNLOADED, State.FAILED}


async def models(request: Request) -> Response:
    who, known = context.of(request.scope), services.of(request).models
    late = _asks_for_reload(request) and who.admin and not await known.rescan()
    seen = [gate for name, gate in sorted(known.gates.items()) if who.key is None or who.key.sees(name)]
    found = [_object(request, gate) for gate in seen if not known.entries[gate.name].model.hidden]
    more = {"reload_error": "the scan takes longer; the list will fill in"} if late else {}
    return inbound.answer({"object": "list", "data": found, "server": "llama-supervisor", **more})


def _asks_for_reload(request: Request) -> bool:
    return request.query_params.get("reload", "").lower() in ("1", "true")


async def model(request: Request) -> Response:
    return inbound.answer(_object(request, inbound.gate(request, request.path_params["id"], fallback=False)))


async def load(request: Request) -> Response:
    body = await inbound.json_body(request)
    for field in ("overrides", "extra_args"):
        if body.get(field):
            raise Unsupported(field, field)
    return await _command(request, body, "load", {State.READY})


async def unload(request: Request) -> Response:
    body = await inbound.json_body(request)
    if body.get("force"):
        raise Unsupported("force", "force")
    return await _command(request, body, "unload", _UNLOADED)


async def _command(request: Request, body: dict[str, Any], verb: str, goal: set[State]) -> Response:
    """`{"success": true}` once the root has decided; with `wait`, once the model is there, or gone."""
    gate = inbound.gate(request, body.get("model"), fallback=False)
    found = services.of(request)
    seconds = _wait(body.get("wait"), found.config.admission.queue_timeout)
    answer = await found.models.command(verb, gate.name, context.of(request.scope).admin)
    result: dict[str, Any] = {"success": True} | ({"already": True} if answer.already else {})
    if seconds:
        try:
            async with Connected(request.receive), asyncio.timeout(seconds):
                await gate.settled(goal)
        except TimeoutError:
            raise queue_timeout(gate.name, seconds) from None
        result["status"] = _object(request, gate)["status"]
    return inbound.answer(result)


def _wait(value: object, longest: float) -> float:
    """Seconds to wait: `true` is as long as a request would. Raises BadRequest."""
    if value is None or isinstance(value, bool):
        return longest if value else 0.0
    if isinstance(value, int | float) and value >= 0:
        return min(float(value), longest)
    raise BadRequest(f"wait: expected true, false or seconds ≥ 0, got {value!r:.60}", "wait")


def _object(request: Request, gate: Gate) -> dict[str, Any]:
    return shown(request, gate.status)


def shown(request: Request, status: ModelStatus) -> dict[str, Any]:
    """A model in this state, as the one who asks may see it."""
    found = services.of(request)
    entry, gate = found.models.entries.get(status.name), found.models.gates.get(status.name)
    if entry is None or gate is None:
        raise ApiError("model_not_found", f'model "{status.name}" not found', param="model")
    admin = context.of(request.scope).admin
    return model_object(entry, status, gate.in_flight, gate.queued, admin)


ROUTES = [
    Route("/models", models),
    Route("/v1/models", models),
    Route("/models/load", load, methods=["POST"]),
    Route("/models/unload", unload, methods=["POST"]),
    Route("/models/{id:path}", model),
    Route("/v1/models/{id:path}", model),
]
