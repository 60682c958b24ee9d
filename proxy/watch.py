"""The layer that counts: every request when it is over, by what its answer was."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy import context
from proxy.views import Views

_OTHER = "other"  # paths that are no route, and files: they would be labels without number


class Watch:
    """ASGI middleware, outside of what turns exceptions into answers."""

    def __init__(self, app: ASGIApp, views: Views, routes: Iterable[Route]) -> None:
        self.app, self.views = app, views
        self._exact = {route.path for route in routes if not route.param_convertors}
        self._patterns = [route for route in routes if route.param_convertors]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = context.of(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            self.views.activity.end(found)
            self.views.tally.answered(found, self._endpoint(scope["path"]))

    def _endpoint(self, path: str) -> str:
        """The route's path, so that labels are few."""
        if path in self._exact:
            return path
        return next((route.path for route in self._patterns if route.path_regex.match(path)), _OTHER)
