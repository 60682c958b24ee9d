"""Who waits for what, which requests run and ran, and how to end one. API.md, 11. Never what was said in them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.activity import Row, Viewer
from proxy.errors import ApiError
from proxy.gate import Gate
from proxy.models import Models
from proxy.routes import inbound
from supervisor.control import State

_HOLDING = {State.LOADING, State.READY, State.DRAINING, State.STOPPING}  # a place in memory


async def queue(request: Request) -> Response:
    found, who = services.of(request), context.of(request.scope)
    queues = await found.views.queues()
    seen = [gate for name, gate in sorted(found.models.gates.items()) if who.key is None or who.key.sees(name)]
    rows = []
    for gate in seen:
        one = queues[gate.name]
        row: dict[str, Any] = {"model": gate.name, "state": gate.status.state}
        row |= {"in_flight": one.in_flight, "queued": one.queued, "oldest_wait_ms": round(one.oldest_wait_ms)}
        if one.queued and (blocking := _blocking(found.models, gate)):
            row["blocked_by"] = [other.name for other in blocking if other in seen]
        rows.append(row)
    total, limit = sum(row["queued"] for row in rows), found.config.admission.max_queue
    return inbound.answer({"models": rows, "queued": total, "limit": limit})


async def running(request: Request) -> Response:
    rows = await services.of(request).views.running(_viewer(request))
    return inbound.answer(_chosen(request, rows))


async def activity(request: Request) -> Response:
    """`{"running": […], "recent": […]}`, each oldest first."""
    views, viewer = services.of(request).views, _viewer(request)
    now, before = await views.running(viewer), await views.ended(viewer)
    return inbound.answer({"running": _chosen(request, now), "recent": _chosen(request, before)})


async def cancel(request: Request) -> Response:
    id = request.path_params["id"]
    if not await services.of(request).views.cancel(id, _viewer(request)):
        raise ApiError("not_found", f'no request "{id[:128]}" is running', param="id")
    return inbound.answer({"success": True})


def _viewer(request: Request) -> Viewer:
    who = context.of(request.scope)
    return Viewer(who.key.name if who.key else "", who.admin)


def _chosen(request: Request, rows: list[Row]) -> list[Row]:
    """Those of the model that the query names; whose they are is for admins."""
    name = request.query_params.get("model")
    if name:
        inbound.gate(request, name)
        rows = [row for row in rows if row.model == context.of(request.scope).model]
    if not context.of(request.scope).admin:
        rows = [msgspec.structs.replace(row, key=None) for row in rows]
    return rows


def _blocking(models: Models, gate: Gate) -> list[Gate]:
    """The models that hold all places, so that this one waits for one of them to go."""
    most = models.config.placement.max_models
    holding = [other for other in models.gates.values() if other is not gate and other.status.state in _HOLDING]
    return holding if gate.status.state not in _HOLDING and most and len(holding) >= most else []


ROUTES = [
    Route("/queue", queue),
    Route("/requests", running),
    Route("/activity", activity),
    Route("/requests/{id}/cancel", cancel, methods=["POST"]),
]
