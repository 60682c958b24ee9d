"""GET /props, which loads nothing and never fails: some clients storm it when it does. API.md, 14."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.dialects.props import model_props, server_props
from proxy.routes import inbound


async def props(request: Request) -> Response:
    found = services.of(request)
    name = request.query_params.get("model")
    if not name:
        return inbound.answer(server_props(found.config, found.site.served))
    gate = inbound.gate(request, name, fallback=False)
    model, slots = found.models.shown[context.of(request.scope).model].model, found.config.server.slots
    return inbound.answer(model_props(model, gate.status, found.site.served, slots))


ROUTES = [Route("/props", props)]
