"""GET and POST /lora-adapters; neither loads a model. API.md, 7.2."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.dialects import lora
from proxy.errors import ApiError
from proxy.gate import Gate
from proxy.routes import inbound
from supervisor.control import Entry


async def adapters(request: Request) -> Response:
    gate, entry = _named(request)
    return inbound.answer(lora.rows(entry, gate.status, admin=context.of(request.scope).admin))


async def scale(request: Request) -> Response:
    """Holds for requests from now on, in every replica, and for later loads too."""
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "POST /lora-adapters needs a key with admin = true")
    gate, entry = _named(request)
    scales = await inbound.parsed_list(request, lambda body: lora.parse(body, entry.model))
    await services.of(request).models.command("scale", gate.name, admin=True, overrides={"lora": scales})
    return inbound.answer({"success": True})


def _named(request: Request) -> tuple[Gate, Entry]:
    """The model in the query, as the body is an array."""
    gate = inbound.gate(request, request.query_params.get("model"), fallback=False)
    return gate, services.of(request).models.shown[context.of(request.scope).model]


ROUTES = [
    Route("/lora-adapters", adapters),
    Route("/lora-adapters", scale, methods=["POST"]),
]
