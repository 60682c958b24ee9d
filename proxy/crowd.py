"""The layer that bounds how many requests one process answers at once: streams, and those who watch, included."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import ApiError

_ALWAYS = ("/health", "/v1/health")  # cheap, and asked for by those who would restart a server that does not answer


class Crowd:
    """ASGI middleware. `most` is asked for each request. One too many is told so before anything is read of it."""

    def __init__(self, app: ASGIApp, most: Callable[[], int]) -> None:
        self.app, self._most, self._count = app, most, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _ALWAYS:
            return await self.app(scope, receive, send)
        if self._count >= (most := self._most()):
            raise ApiError("queue_full", f"more than {most} requests at once ([server].max_requests)", limit=most)
        self._count += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._count -= 1
