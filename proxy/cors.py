"""Which web pages may read our answers. API.md, 1.7."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Origins = tuple[str, ...] | Literal["localhost", "*"]
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_EXPOSED = b"X-Request-Id, X-Model, X-Queue-Ms, X-Load-Ms, Retry-After, X-Should-Retry"


def allowed(origin: str, origins: Origins) -> bool:
    """Whether a page of this origin may use the server."""
    if origins == "*":
        return True
    if origins == "localhost":
        try:
            return urlsplit(origin).hostname in _LOCAL
        except ValueError:
            return False
    return origin in origins


def header(scope: Scope, name: bytes) -> str:
    """A request header's value, or ""."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


class Cors:
    """ASGI middleware: answers every OPTIONS, and marks what an allowed origin may read."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self.app, self.origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin")
        marks = self._marks(origin) if origin else []
        if scope["method"] == "OPTIONS":
            headers = [*marks, *(_preflight(scope) if marks else ()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body"})
        else:
            await self.app(scope, receive, _marking(send, marks) if marks else send)

    def _marks(self, origin: str) -> list[tuple[bytes, bytes]]:
        if not allowed(origin, self.origins):
            return []
        found = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        found.append((b"access-control-expose-headers", _EXPOSED))
        if self.origins != "*":
            found.append((b"access-control-allow-credentials", b"true"))
        return found


def _marking(send: Send, marks: Iterable[tuple[bytes, bytes]]) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *marks]
        await send(message)

    return marked


def _preflight(scope: Scope) -> list[tuple[bytes, bytes]]:
    """`*` would not cover Authorization: the names asked for are allowed, if they are names."""
    asked = header(scope, b"access-control-request-headers").split(",")
    names = ", ".join(name for raw in asked if _HEADER_NAMES.fullmatch(name := raw.strip()))
    found = [(b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"), (b"access-control-max-age", b"86400")]
    return [*found, (b"access-control-allow-headers", names.encode())] if names else found
