"""What only an administrator may see. API.md, 11."""

from __future__ import annotations

import asyncio
import logging
import os

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.dialects import model_events
from proxy.errors import ApiError, BadRequest
from proxy.routes import inbound
from supervisor import crash_files, keepsakes
from supervisor.log import facts

log = logging.getLogger("proxy.admin")


async def deaths(request: Request) -> Response:
    """The last deaths, newest first; of one model, or of all and the proxies, with the ids of all reports there are."""
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "GET /admin/deaths needs a key with admin = true")
    name, text = request.query_params.get("model"), request.query_params.get("limit", "100")
    if not text.isascii() or not text.isdigit():
        raise BadRequest(f'limit: expected an integer ≥ 0, got "{text[:40]}"', "limit")
    model = inbound.gate(request, name).name if name else None
    known = reversed(services.of(request).feed.deaths)
    found = [model_events.death(death) for death in known if model is None or death.model == model]
    kept = await asyncio.to_thread(crash_files.ids, _state(request)) if model is None else []
    return inbound.answer({"deaths": found[: int(text)], "reports": kept[::-1]})


async def report(request: Request) -> Response:
    """Everything that is known of one death: GET /admin/deaths names its report."""
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "GET /admin/deaths/ID needs a key with admin = true")
    id = request.path_params["id"]
    try:
        found = await asyncio.to_thread(crash_files.read, _state(request), id)
    except OSError as error:
        log.error("a crash report cannot be read %s", facts(id=id, error=error.strerror))
        found = None
    if found is None:
        raise ApiError("not_found", "there is no report of this id; GET /admin/deaths names those of the last deaths")
    return Response(found, media_type="application/json")


def _state(request: Request) -> str:
    return keepsakes.folder(services.of(request).config.state.dir, os.environ)


async def reload(request: Request) -> Response:
    """Reads the configuration again, whole or not at all, and looks for models. API.md, 11."""
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "POST /admin/reload needs a key with admin = true")
    outcome = await services.of(request).models.reload()
    if outcome.error:
        file = services.of(request).config.file
        raise ApiError("config_invalid", outcome.error, file=file, table=outcome.table, key=outcome.key)
    names = {word: list(getattr(outcome, word)) for word in ("added", "removed", "changed", "restarting")}
    return inbound.answer({"success": True} | names | ({} if outcome.complete else {"incomplete": True}))


async def tree(request: Request) -> Response:
    """Every process: root, proxies, workers, downloads, the standby and the scan. API.md, 11."""
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "GET /admin/tree needs a key with admin = true")
    return inbound.answer({"processes": await services.of(request).views.processes()})


ROUTES = [
    Route("/admin/deaths", deaths),
    Route("/admin/deaths/{id}", report),
    Route("/admin/reload", reload, methods=["POST"]),
    Route("/admin/tree", tree),
]
