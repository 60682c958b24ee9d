"""Lists of models; load and unload on demand. API.md, 2."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects import overrides
from proxy.dialects.fields import typed
from proxy.dialects.management import Load, Unload, Wait
from proxy.dialects.model_object import model_object
from proxy.errors import ApiError, Unsupported
from proxy.gate import Gate
from proxy.models import Models
from proxy.refusals import queue_timeout
from proxy.routes import inbound
from supervisor.control import ModelStatus, State

Settings = dict[str, Any]
_CONFIGURED: Settings = {}
_UNLOADED = {State.UNLOADED, State.FAILED}


async def models(request: Request) -> Response:
    who, known = context.of(request.scope), services.of(request).models
    wrong = await _reload_error(known) if _asks_for_reload(request) and who.admin else ""
    seen = [(id, gate) for id, gate in known.listed(who.key) if not known.shown[id].model.hidden]
    found = [shown(request, gate.status, id) for id, gate in seen]
    more = {"reload_error": wrong} if wrong else {}
    return inbound.answer({"object": "list", "data": found, "server": "llama-supervisor", **more})


def _asks_for_reload(request: Request) -> bool:
    return request.query_params.get("reload", "").lower() in ("1", "true")


async def _reload_error(known: Models) -> str:
    """What is wrong with the configuration, which then stays as it was; "" if it was taken over."""
    try:
        outcome = await known.reload()
    except ApiError as error:
        return str(error)
    return outcome.error or ("" if outcome.complete else "the scan takes longer; the list will fill in")


async def model(request: Request) -> Response:
    return inbound.answer(_object(request, inbound.gate(request, request.path_params["id"], fallback=False)))


async def load(request: Request) -> Response:
    order = typed(await inbound.json_body(request), Load)
    if order.extra_args:
        raise Unsupported("extra_args", "extra_args")
    return await _command(request, order, "load", {State.READY}, _overrides(request, order.overrides))


def _overrides(request: Request, said: object) -> Settings:
    """What a load is to have in place of the configured settings. Raises ApiError."""
    if said is None or said == {}:
        return {}
    key, admission = context.of(request.scope).key, services.of(request).config.admission
    if not admission.allow_load_overrides:
        text = "overrides are turned off: admission.allow_load_overrides = false"
        raise ApiError("overrides_disabled", text, param="overrides")
    if key is None or not key.admin:
        raise ApiError("admin_required", "overrides need an API key with admin = true", param="overrides")
    return overrides.parse(said)


async def unload(request: Request) -> Response:
    order = typed(await inbound.json_body(request), Unload)
    if order.force:
        raise Unsupported("force", "force")
    return await _command(request, order, "unload", _UNLOADED)


async def _command(
    request: Request, order: Load | Unload, verb: str, goal: set[State], settings: Settings = _CONFIGURED
) -> Response:
    """`{"success": true}` once the root has decided; with `wait`, once the model is there, or gone."""
    gate = inbound.gate(request, order.model, fallback=False)
    found = services.of(request)
    seconds = _wait(order.wait, found.config.admission.queue_timeout)
    answer = await found.models.command(verb, gate.name, context.of(request.scope).admin, settings)
    result: dict[str, Any] = {"success": True} | ({"already": True} if answer.already else {})
    if gate.name != context.of(request.scope).model:
        result["base"] = gate.name  # a variant has no load of its own
    if seconds:
        try:
            async with Connected(request.receive), asyncio.timeout(seconds):
                await gate.settled(goal)
        except TimeoutError:
            raise queue_timeout(gate.name, seconds) from None
        result["status"] = _object(request, gate)["status"]
    return inbound.answer(result)


def _wait(value: Wait, longest: float) -> float:
    """Seconds to wait: `true` is as long as a request would."""
    if isinstance(value, bool):
        return longest if value else 0.0
    return min(value, longest)


def _object(request: Request, gate: Gate) -> dict[str, Any]:
    return shown(request, gate.status, context.of(request.scope).model)


def shown(request: Request, status: ModelStatus, id: str) -> dict[str, Any]:
    """A model in this state, or a variant of it, as the one who asks may see it."""
    found = services.of(request)
    entry, gate = found.models.shown.get(id), found.models.gates.get(status.name)
    if entry is None or gate is None:
        raise ApiError("model_not_found", f'model "{id}" not found', param="model")
    admin = context.of(request.scope).admin
    workers = tuple(gate.replicas.values()) if gate.several else ()
    return model_object(entry, status, gate.in_flight, gate.queued, admin, workers)


ROUTES = [
    Route("/models", models),
    Route("/v1/models", models),
    Route("/models/load", load, methods=["POST"]),
    Route("/models/unload", unload, methods=["POST"]),
    Route("/models/{id:path}", model),
    Route("/v1/models/{id:path}", model),
]
