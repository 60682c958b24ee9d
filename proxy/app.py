"""create_app(): routes, and the layers every request passes through, outermost first.

Boundary   id, headers, access log
Watch      metrics, the list of requests
Cors       which pages may read the answer; OPTIONS
Catch      exceptions → answers
BasePath   the path below which everything is
Slash      one trailing slash is dropped
Crowd      how many at once
Auth       who asks
Upstream   /upstream/MODEL/PATH is PATH with that model
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.auth import PUBLIC, Auth
from proxy.base_path import BasePath
from proxy.context import Boundary, Catch
from proxy.cors import Cors
from proxy.crowd import Crowd
from proxy.routes import (
    admin,
    anthropic,
    control,
    downloads,
    events,
    health,
    keys,
    llama,
    llama_swap,
    lora,
    metrics,
    models,
    ollama,
    ollama_pull,
    openai,
    props,
    reference,
    requests,
    slots,
    streams,
    swap_events,
    ui,
    unserved,
    vectors,
)
from proxy.services import Services
from proxy.upstream import PREFIX, Upstream
from proxy.watch import Watch

_API = (  # events before models: "sse" is no model's name
    health, events, models, props, slots, metrics, requests, openai, control, llama, vectors, anthropic, ollama,
    downloads, ollama_pull,
    streams, llama_swap, swap_events, lora, unserved, keys, admin, reference, ui,
)  # fmt: skip
ROUTES = [route for part in _API for route in part.ROUTES]


def create_app(services: Services) -> Starlette:
    """The ASGI app; it serves HTTP only."""

    def public(path: str) -> bool:
        if path == "/metrics" and services.config.server.metrics_public:
            return True
        return path in PUBLIC or (path in services.site and not any(route.path_regex.match(path) for route in ROUTES))

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(Boundary),
            Middleware(Watch, views=services.views, routes=ROUTES),
            Middleware(Cors, origins=services.config.server.cors_origins),
            Middleware(Catch),
            Middleware(BasePath, base=services.config.server.root_path),
            Middleware(Slash),
            Middleware(Crowd, most=lambda: services.config.server.max_requests),
            Middleware(Auth, config=lambda: services.config, public=public),
            Middleware(Upstream, models=services.models, root_path=services.config.server.root_path),
        ],
        exception_handlers={HTTPException: _pass_on},
    )
    app.router.redirect_slashes = False  # a redirect loses bodies in some clients
    app.router.default = ui.files  # after all routes: no file of a page hides the API
    app.state.services = services
    return app


class Slash:
    """ASGI middleware: `/v1/models/` is `/v1/models`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.endswith("/") and path != "/" and not path.startswith(PREFIX):
            scope["path"] = scope["path"][:-1]
        await self.app(scope, receive, send)


async def _pass_on(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405 get our shape, in Catch."""
    raise error
