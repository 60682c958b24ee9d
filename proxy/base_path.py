"""The path below which everything is: `root_path` of the configuration, for a reverse proxy that passes it on."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import ApiError


class BasePath:
    """ASGI middleware: cuts the path off, so that nothing further in knows of it. `base` has no slash at its end."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        self.app, self.base = app, base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self.base and path == self.base:  # links of the pages are relative to what is below
            await RedirectResponse(f"{self.base}/", status_code=308)(scope, receive, send)
            return
        if not path.startswith(f"{self.base}/"):
            raise ApiError("not_found", f"{path[:200]!r}: there is no such path; everything is below {self.base}/")
        scope["path"] = path[len(self.base) :]
        await self.app(scope, receive, send)
