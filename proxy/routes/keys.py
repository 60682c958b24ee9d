"""What the API keys have used, since this proxy began."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.errors import ApiError
from proxy.routes import inbound


async def keys(request: Request) -> Response:
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", "GET /admin/keys needs a key with admin = true")
    accounts = services.of(request).limits.accounts.values()
    return inbound.answer({"keys": [account.object() for account in accounts]})


ROUTES = [Route("/admin/keys", keys)]
