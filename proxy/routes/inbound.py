"""What every route does first: the body, the model, the query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from proxy import body, context, services
from proxy.dialects.reply import encode
from proxy.errors import BadRequest
from proxy.gate import Gate

T = TypeVar("T")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises ApiError, ClientGone."""
    return await parsed(request, lambda tree: tree)


async def parsed(request: Request, parse: Callable[[dict[str, Any]], T]) -> T:
    """What `parse`, which is pure, makes of the body, a JSON object. Raises ApiError, ClientGone."""
    server = services.of(request).config.server
    with services.of(request).bodies.hold() as held:
        return await body.parse(await body.read(request.scope, request.receive, server, held), server, parse)


async def parsed_list(request: Request, parse: Callable[[list[Any]], T]) -> T:
    """The same of a JSON array. Raises ApiError, ClientGone."""
    server = services.of(request).config.server
    with services.of(request).bodies.hold() as held:
        return await body.parse_list(await body.read(request.scope, request.receive, server, held), server, parse)


def gate(request: Request, name: object, *, fallback: bool = True) -> Gate:
    """The model a request names, as far as its key may see it; noted for the log. Raises ApiError.

    The one that its path names, below /upstream/, goes before. `fallback`: a name that no model has means the
    configured fallback model; not where models are managed. A variant's gate is that of its model; the Context has the
    id that was asked for.
    """
    name = request.scope["state"].get("upstream", name)
    if name is not None and not isinstance(name, str):
        raise BadRequest(f"model: expected string, got {name!r:.60}", "model")
    who = context.of(request.scope)
    who.model, found = services.of(request).models.find(name or "", who.key, fallback=fallback)
    return found


def autoload(request: Request) -> bool:
    """Whether the request may load its model. Raises BadRequest."""
    text = request.query_params.get("autoload")
    if text is None:
        return services.of(request).config.admission.autoload
    if text.lower() not in _BOOLS:
        raise BadRequest(f'autoload: expected "true" or "false", got "{text[:40]}"', "autoload")
    return _BOOLS[text.lower()]


def answer(content: object) -> Response:
    """A JSON answer."""
    return Response(encode(content), media_type="application/json")
