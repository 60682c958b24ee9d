"""Routes that clients ask for and that are not built, or not wanted here: each answers in the way they understand.

API.md: 3, 4.1 and 12.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.errors import ApiError, Unsupported


async def set_props(request: Request) -> Response:
    raise Unsupported("props", message="properties cannot be changed over HTTP; the configuration has them")


async def transcribe(request: Request) -> Response:
    raise Unsupported("audio", message="no model here can hear")


async def disabled(request: Request) -> Response:
    """A 404 would put a panel of llama-server's pages into an error state."""
    raise ApiError("feature_disabled", "this feature is disabled")


ROUTES = [
    Route("/props", set_props, methods=["POST"]),
    Route("/v1/audio/transcriptions", transcribe, methods=["POST"]),
    Route("/audio/transcriptions", transcribe, methods=["POST"]),
    Route("/tools", disabled, methods=["GET", "POST"]),
    Route("/cors-proxy", disabled, methods=["GET", "POST"]),
]
