"""Routes that clients ask for and that are not built, or not wanted here: each answers in the way they understand.

API.md: 3, 4.1, 7.2 and 12.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context
from proxy.errors import ApiError, Unsupported
from proxy.routes import inbound


async def adapters(request: Request) -> Response:
    """The LoRA adapters of a model: it has none, as none can be configured."""
    inbound.gate(request, request.query_params.get("model"))
    return inbound.answer([])


async def scale_adapters(request: Request) -> Response:
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "POST /lora-adapters needs a key with admin = true")
    inbound.gate(request, request.query_params.get("model"))
    raise Unsupported("lora", message="LoRA adapters are not supported")


async def set_props(request: Request) -> Response:
    raise Unsupported("props", message="properties cannot be changed over HTTP; the configuration has them")


async def transcribe(request: Request) -> Response:
    raise Unsupported("audio", message="no model here can hear")


async def disabled(request: Request) -> Response:
    """A 404 would put a panel of llama-server's pages into an error state."""
    raise ApiError("feature_disabled", "this feature is disabled")


ROUTES = [
    Route("/lora-adapters", adapters),
    Route("/lora-adapters", scale_adapters, methods=["POST"]),
    Route("/props", set_props, methods=["POST"]),
    Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
    Route("/audio/transcriptions", transcribe, methods=["POST"]),
    Route("/tools", disabled, methods=["GET", "POST"]),
    Route("/cors-proxy", disabled, methods=["GET", "POST"]),
]
