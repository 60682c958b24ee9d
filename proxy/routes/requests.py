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
_LEAVING = {State.DRAINING, State.STOPPING}


async def queue(request: Request) -> Response:
    found, who = services.of(request), context.of(request.scope)
    queues = await found.views.queues()
    seen = [gate for name, gate in sorted(found.models.gates.items()) if who.key is None or who.key.sees(name)]
    rows = []
    for gate in seen:
        one = queues[gate.name]
        row: dict[str, Any] = {"model": gate.name, "state": gate.status.state}
        row |= {"in_flight": one.in_flight, "queued": one.queued, "oldest_wait_ms": round(one.oldest_wait_ms)}
        if one.queued:
            row |= _prospects(found.models, gate, one.oldest_wait_ms / 1000, {other.name for other in seen})
        rows.append(row)
    total, limit = sum(row["queued"] for row in rows), found.config.admission.max_queue_total
    return inbound.answer({"models": rows, "queued": total, "limit": limit})


async def running(request: Request) -> Response:
    rows = await services.of(request).views.running(viewer(request))
    return inbound.answer(_chosen(request, rows))


async def activity(request: Request) -> Response:
    """`{"running": […], "recent": […]}`, each oldest first."""
    views, who = services.of(request).views, viewer(request)
    now, before = await views.running(who), await views.ended(who)
    return inbound.answer({"running": _chosen(request, now), "recent": _chosen(request, before)})


async def cancel(request: Request) -> Response:
    await end(request)
    return inbound.answer({"success": True})


async def end(request: Request) -> None:
    """Ends the request whose id is in the path. Raises ApiError if the caller has none of it."""
    id = request.path_params["id"]
    if not await services.of(request).views.cancel(id, viewer(request)):
        raise ApiError("not_found", f'no request "{id[:128]}" is running', param="id")


def viewer(request: Request) -> Viewer:
    """Who looks."""
    who = context.of(request.scope)
    return Viewer(who.owner, who.admin)


def _chosen(request: Request, rows: list[Row]) -> list[Row]:
    """Those of the model that the query names; whose they are is for admins."""
    name = request.query_params.get("model")
    if name:
        inbound.gate(request, name)
        rows = [row for row in rows if row.model == context.of(request.scope).model]
    if not context.of(request.scope).admin:
        rows = [msgspec.structs.replace(row, key=None) for row in rows]
    return rows


def _prospects(models: Models, gate: Gate, waited: float, seen: set[str]) -> dict[str, Any]:
    """When it will be its turn, as far as known, and whom it waits for: those that stand in the way, or are leaving."""
    found: dict[str, Any] = {}
    if (rest := models.hall.ready_in(gate.name, waited)) is not None:
        found["eta_ms"] = round(rest * 1000)
    blocking = gate.status.blocked_by
    if gate.status.state not in _HOLDING and not blocking:
        blocking = tuple(name for name, other in models.gates.items() if other.status.state in _LEAVING)
    if names := [name for name in blocking if name in seen]:
        found["blocked_by"] = sorted(names)
    return found


ROUTES = [
    Route("/queue", queue),
    Route("/requests", running),
    Route("/activity", activity),
    Route("/requests/{id}/cancel", cancel, methods=["POST"]),
]
