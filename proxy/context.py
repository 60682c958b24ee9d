"""What is known of one HTTP request, from its first byte to the access log, and the outermost layer of the app.

Every answer passes here: it gets its id, and an exception becomes an answer or, after the head, the end of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.calls import Call
from proxy.dialects import error_shapes
from proxy.errors import STATUS, ApiError, ClientStalled, Gone, internal
from proxy.limits import Permit
from supervisor import recorder
from supervisor.config import Key
from supervisor.log import facts

CLIENT_GONE = 499  # in the access log only: nobody was left to receive a status
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

access, log = logging.getLogger("proxy.access"), logging.getLogger("proxy.app")


def _nothing() -> None:
    pass


@dataclass(eq=False)
class Context:
    """One request. `key` is None when no keys are configured; `cut` closes the connection of a client at once.

    `client` is its address, `sent` how many bytes of the answer's body it was sent.
    """

    request_id: str
    key: Key | None = None
    admin: bool = False
    model: str = ""
    call: Call | None = None
    permit: Permit | None = None
    cut: Callable[[], None] = _nothing
    client: str = ""
    status: int = 0
    sent: int = 0
    outcome: str = ""  # an error's code, or how the client left; "" is success
    began: float = field(default_factory=time.monotonic)

    def stall(self) -> None:
        """The client does not read: it pays. What ends its request looks like its leaving otherwise."""
        self.outcome = ClientStalled.outcome
        self.cut()

    @property
    def owner(self) -> str:
        """Whose this request is: the name of its key, "" without keys."""
        return self.key.name if self.key else ""

    @property
    def told_status(self) -> int:
        """The status of the answer, or of the error that ended its stream."""
        return STATUS[self.outcome][0] if self.outcome in STATUS else self.status

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every response says: API.md, 1.6."""
        found = [(b"x-request-id", self.request_id.encode()), (b"server", b"llama-supervisor")]
        if self.model:
            found.append((b"x-model", self.model.encode("ascii", "replace")))
        if self.call is not None and self.call.queue_ms is not None:
            found.append((b"x-queue-ms", f"{self.call.queue_ms:.0f}".encode()))
            found.append((b"x-load-ms", f"{self.call.load_ms or 0:.0f}".encode()))
        return found


def of(scope: MutableMapping[str, Any]) -> Context:
    """The context of a request inside the app."""
    context: Context = scope["state"]["context"]
    return context


class Boundary:
    """ASGI middleware: makes the Context, turns exceptions into answers, writes the access log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "uvicorn is told to pass nothing else"
        cut = scope.setdefault("state", {}).get("cut", _nothing)
        context = Context(_request_id(scope), cut=cut, client=scope["client"][0] if scope.get("client") else "")
        scope["state"]["context"] = context
        row = recorder.begin(context.request_id)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *context.headers()]
            else:
                context.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            recorder.end(row)
            if context.permit is not None:
                context.permit.close()
            _tell(context, scope)


class Catch:
    """ASGI middleware: an exception becomes an answer in the one shape, or ends an answer that has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = of(scope)
        try:
            return await self.app(scope, receive, send)
        except Gone as gone:
            context.status, context.outcome = CLIENT_GONE, context.outcome or gone.outcome
            return await asyncio.sleep(0)  # a connection that was cut just now ends before this call does
        except ApiError as error:
            found = error
        except HTTPException as error:
            found = _routing(error, scope)
        except Exception:
            log.exception("a bug %s", facts(request=context.request_id, path=_printable(scope["path"])))
            found = internal(context.request_id)
        context.outcome = found.code
        if context.status:
            return await _break_off(context)
        return await respond(send, found, error_shapes.of(scope["path"]), context.request_id)


def _tell(context: Context, scope: Scope) -> None:
    """The line of the access log: who, what, how long, how much and how it ended; never what was said, nor a secret."""
    known: dict[str, object] = {"request": context.request_id, "client": context.client, "key": context.owner}
    known |= {"model": context.model, "status": context.status, "outcome": context.outcome or "ok"}
    spent: dict[str, object] = {"ms": round((time.monotonic() - context.began) * 1000), "bytes": context.sent}
    if (call := context.call) is not None:
        times = {"queue_ms": call.queue_ms, "load_ms": call.load_ms, "first_ms": call.first_ms}
        spent |= {name: round(value) for name, value in times.items() if value is not None}
        if call.answer is not None and call.queue_ms is not None:
            prompt, cached, generated = call.answer.counts
            spent |= {"prompt_tokens": prompt, "cached_tokens": cached, "generated": generated}
    access.info("%s %s %s", scope["method"], _printable(scope["path"]), facts(**known, **spent))


async def _break_off(context: Context) -> None:
    """The head has gone out: only the end of the connection can say that this is no whole answer."""
    context.cut()
    await asyncio.sleep(0)  # the server sees the end before this call returns, and does not complain


async def respond(
    send: Send, error: ApiError, shape: error_shapes.Shape = error_shapes.openai, request_id: str = ""
) -> None:
    """Sends an error as a whole answer."""
    status, content = shape(error, request_id)
    body = msgspec.json.encode(content)
    headers = [*error.headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _routing(error: HTTPException, scope: Scope) -> ApiError:
    if error.status_code == 405:
        found = ApiError("method_not_allowed", f"{scope['method']} is not possible on {_printable(scope['path'])}")
        allowed = sorted({method for route in scope["app"].routes for method in _methods(route, scope)})
        found.extra = [(b"allow", ", ".join(allowed).encode())]
        return found
    return ApiError("not_found", f"{scope['method']} {_printable(scope['path'])}: there is no such path")


def _methods(route: Any, scope: Scope) -> set[str]:
    methods: set[str] = route.methods if route.path_regex.match(scope["path"]) else set()
    return methods


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value.decode("latin-1")):
            return str(value, "latin-1")
    return os.urandom(10).hex()


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:200]
