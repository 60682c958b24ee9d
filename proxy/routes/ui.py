"""The user interface: static files, public. WEBUI.md, Delivery; API.md, 12."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import services
from proxy.site import INDEX, File

_GREETING = "Ollama is running"  # what clients of Ollama look for; others only see that somebody answers
_NOT_BUILT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>llama-supervisor</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto; padding: 0 1.5rem }
h1 { font-size: 1.25rem } code { font-size: .9em; padding: .1em .35em; border-radius: 4px; background: #8882 }
</style>
<h1>The server runs; its pages have not been built</h1>
<p>The API is complete: <code>POST /v1/chat/completions</code> talks to a model, <code>GET /v1/models</code> lists them.</p>
<p>To build the pages, run <code>make ui</code> in the project's folder and reload this one. It needs Node.js 20.19 or newer;
without one it says how to get it. <code>[ui] enabled = false</code> in the configuration turns the pages off.</p>
</html>
"""  # noqa: E501
# A page that an older interface has left on this origin would go on serving old files.
_NO_WORKER = """addEventListener("install", () => skipWaiting());
addEventListener("activate", () => registration.unregister());
"""

# Nothing comes from elsewhere, and nothing is sent elsewhere. Other people's pages may need inline scripts.
_CSP = "connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
_OWN = f"default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; {_CSP}"
_STRANGE = f"default-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' data: blob:; {_CSP}"
_BARE = f"default-src 'none'; style-src 'unsafe-inline'; {_CSP}"
_SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


async def index(request: Request) -> Response:
    site = services.of(request).site
    if not site.enabled:
        return PlainTextResponse(_GREETING)
    site.refresh()
    if (found := site.get(INDEX)) is None:
        return HTMLResponse(_NOT_BUILT, headers=_SAFE | {"content-security-policy": _BARE, "cache-control": "no-cache"})
    return _send(request, found)


async def files(scope: Scope, receive: Receive, send: Send) -> None:
    """What no route serves: a file of the interface, else 404."""
    request = Request(scope, receive)
    found = services.of(request).site.get(scope["path"])
    if found is None or scope["method"] not in ("GET", "HEAD"):
        raise HTTPException(404)
    await _send(request, found)(scope, receive, send)


async def worker(request: Request) -> Response:
    site = services.of(request).site
    if (found := site.get("/sw.js")) is not None:
        return _send(request, found)
    return Response(_NO_WORKER, media_type="text/javascript", headers={"cache-control": "no-cache"})


def _send(request: Request, found: File) -> Response:
    own = services.of(request).site.own
    headers = _SAFE | {
        "etag": found.etag,
        "cache-control": "public, max-age=31536000, immutable" if found.immutable else "no-cache",
        "content-security-policy": _OWN if own else _STRANGE,
    }
    known = request.headers.get("if-none-match", "").replace("W/", "").split(",")
    if found.etag in (each.strip() for each in known):
        return Response(status_code=304, headers=headers)
    return FileResponse(found.path, media_type=found.kind, headers=headers)


ROUTES = [
    Route("/", index),
    Route(INDEX, index),
    Route("/sw.js", worker),
]
