"""What the server offers: as an OpenAPI document, and as a page. Public, as it says nothing of this server's models."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import services
from proxy.description.document import document
from proxy.dialects.reply import encode

_PAGE = Path(__file__).parent.parent / "description" / "page.html"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


async def openapi(request: Request) -> Response:
    return _kept(request, _document(request), "application/json")


async def docs(request: Request) -> Response:
    page, policy = _page()
    return _kept(request, page, "text/html; charset=utf-8", {"content-security-policy": policy})


def _document(request: Request) -> bytes:
    """Made once: neither the routes nor their base path change while the app lives."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = encode(document(request.app.routes, services.of(request).config.server.root_path))
    found: bytes = state.openapi
    return found


@functools.cache
def _page() -> tuple[bytes, str]:
    """The page, and a policy under which nothing runs but what stands in it."""
    text = _PAGE.read_text()
    hashes: dict[str, str] = {}
    for kind, content in _INLINE.findall(text):
        hashes[kind] = f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    rules = f"script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'"
    return text.encode(), f"default-src 'none'; {rules}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _kept(request: Request, content: bytes, kind: str, more: dict[str, str] | None = None) -> Response:
    """Browsers ask each time whether it has changed."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "no-cache", "x-content-type-options": "nosniff", **(more or {})}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


ROUTES = [Route("/openapi.json", openapi), Route("/docs", docs)]
