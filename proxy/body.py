"""Request bodies: read within a size and a time, and parsed as JSON whatever the content type says. API.md, 1.1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from starlette.types import Receive, Scope

from proxy import off_loop
from proxy.bodies import Held
from proxy.errors import ApiError, BadRequest, ClientGone
from supervisor.config import Server

_CONVERSATIONS = ("messages", "input")  # the latter of Responses; other routes have tokens there, and many
_OFF_LOOP = 256 * 2**10  # bytes; to parse more, and to check it, would hold up every stream for milliseconds
_PER_SECOND = 64 * 2**10  # bytes that earn one more second
T = TypeVar("T")


async def read(scope: Scope, receive: Receive, server: Server, held: Held) -> bytes:
    """The whole body, for which `held` has room.

    Raises ApiError: body_too_large, before reading if it is declared; body_timeout; queue_full. ClientGone.
    """
    limit = server.max_body
    if _declared(scope) > limit:
        raise _too_large(limit)
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size, start = 0, loop.time()
    try:
        async with asyncio.timeout_at(start + server.body_timeout) as clock:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise _too_large(limit)
                held.grow(len(parts[-1]))
                if not message.get("more_body", False):
                    return b"".join(parts)
                clock.reschedule(start + server.body_timeout + size / _PER_SECOND)
    except TimeoutError:
        text = f"the body was not complete in time ([server].body_timeout); {size} bytes came"
        raise ApiError("body_timeout", text) from None


async def parse(data: bytes, server: Server, made: Callable[[dict[str, Any]], T]) -> T:
    """What is `made` of the JSON object, which is within the server's bounds; an empty body counts as `{}`.

    `made` is pure: it may be called in a thread. Raises ApiError.
    """
    if len(data) > _OFF_LOOP:
        return await off_loop.run(lambda: made(_object(data, server)))
    return made(_object(data, server))


async def parse_list(data: bytes, server: Server, made: Callable[[list[Any]], T]) -> T:
    """The same of the few bodies that are a JSON array. Raises ApiError."""
    if len(data) > _OFF_LOOP:
        return await off_loop.run(lambda: made(_array(data, server)))
    return made(_array(data, server))


def _array(data: bytes, server: Server) -> list[Any]:
    tree = _tree(data, server)
    if not isinstance(tree, list):
        raise BadRequest("the body must be a JSON array")
    return tree


def _object(data: bytes, server: Server) -> dict[str, Any]:
    tree = _tree(data, server) if data else {}
    if not isinstance(tree, dict):
        raise BadRequest("the body must be a JSON object")
    for name in _CONVERSATIONS:
        found = tree.get(name)
        if isinstance(found, list) and len(found) > server.max_messages and isinstance(found[0], dict):
            text = f"at most {server.max_messages} entries, got {len(found)} ([server].max_messages)"
            raise BadRequest(f"{name}: {text}", name)
    return tree


def _tree(data: bytes, server: Server) -> Any:
    try:
        tree = orjson.loads(data)  # refuses NaN, Infinity and lone surrogates; integers beyond 64 bits become floats
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from None
    if isinstance(tree, dict | list) and _deeper(tree, server.max_depth):
        text = f"the body is nested deeper than {server.max_depth} levels ([server].max_depth)"
        raise BadRequest(text, code="invalid_json")
    return tree


def _deeper(tree: object, most: int) -> bool:
    """Whether containers are nested beyond so many levels; level by level, without recursion."""
    level: list[Any] = [tree]
    for _ in range(most):
        items = (item for node in level for item in (node.values() if type(node) is dict else node))
        level = [item for item in items if type(item) is dict or type(item) is list]
        if not level:
            return False
    return True


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _too_large(limit: int) -> ApiError:
    return ApiError("body_too_large", f"the body exceeds {limit} bytes ([server].max_body)", limit=limit)
