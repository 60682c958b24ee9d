"""`/upstream/{model}/{path}`: our own route `path` with this model, whatever the request itself says. API.md, 10."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy import context
from proxy.auth import check_endpoint
from proxy.errors import ApiError
from proxy.models import Models

PREFIX = "/upstream/"
_FILE = re.compile(r"\.(css|gif|ico|jpe?g|js|map|png|svg|webp|woff2?)\Z")  # a page's, asked for relative to ours


class Upstream:
    """ASGI middleware: rewrites the path, and names the model in `scope["state"]["upstream"]` and in the query."""

    def __init__(self, app: ASGIApp, models: Models, root_path: str) -> None:
        self.app, self.models, self.root_path = app, models, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        name, rest = self._split(scope)
        if rest in ("", "/"):
            return await self._redirect("/" if rest else f"{scope['path']}/", scope, receive, send)
        if _FILE.search(rest):
            raise ApiError("not_found", f"{rest[:200]}: there is no such path")
        pairs = [pair for pair in parse_qsl(scope["query_string"].decode("latin-1")) if pair[0] != "model"]
        scope["query_string"] = urlencode([*pairs, ("model", name)]).encode()
        scope["path"] = rest.rstrip("/")
        scope["state"]["upstream"] = name
        if (key := context.of(scope).key) is not None:
            check_endpoint(key, scope["path"])
        return await self.app(scope, receive, send)

    def _split(self, scope: Scope) -> tuple[str, str]:
        """The model, whose name may have slashes in it, and the rest of the path. Raises ApiError."""
        text, key = scope["path"].removeprefix(PREFIX), context.of(scope).key
        names = self.models.names
        fit = [name for name in names if text == name or text.startswith(f"{name}/")]
        fit = [name for name in fit if key is None or key.sees(names[name])]
        if not fit:
            raise ApiError("model_not_found", f'model "{text.partition("/")[0][:200]}" not found', param="model")
        name = max(fit, key=len)
        return names[name], text[len(name) :]

    async def _redirect(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """To the same place with a slash behind it; from there to the interface."""
        permanent = 301 if scope["method"] in ("GET", "HEAD") else 308
        status = 302 if path == "/" else permanent
        await RedirectResponse(self.root_path + path, status_code=status)(scope, receive, send)
