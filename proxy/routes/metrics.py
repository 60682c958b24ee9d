"""GET /metrics: read only; it loads nothing and resets nothing. API.md, 3."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, metrics, services
from proxy.routes import inbound


async def page(request: Request) -> Response:
    found, who = services.of(request), context.of(request.scope)
    name = request.query_params.get("model")
    only = inbound.gate(request, name).name if name else None

    def sees(model: str) -> bool:
        if only is not None:
            return model == only
        return who.key is None or who.admin or who.key.sees(model)

    key = who.owner if who.key is not None and not who.admin else None
    body = metrics.page(await found.views.figures(), sees, key)
    return Response(body, headers={"content-type": metrics.CONTENT_TYPE})


ROUTES = [Route("/metrics", page)]
