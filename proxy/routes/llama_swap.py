"""Routes that llama-swap's clients know. API.md, 10."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects.llama_swap import STATES
from proxy.errors import ApiError
from proxy.gate import Gate
from proxy.logs import PROXY, UPSTREAM
from proxy.routes import inbound
from supervisor.config import Model
from supervisor.control import State

_GONE = {State.UNLOADED, State.DOWNLOADING, State.FAILED}  # takes no memory
_SAFE = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


async def running(request: Request) -> Response:
    who, gates = context.of(request.scope), services.of(request).models.gates
    seen = [gate for name, gate in sorted(gates.items()) if who.key is None or who.key.sees(name)]
    entries = services.of(request).models.entries
    found = [gate for gate in seen if gate.status.state in STATES and gate.name in entries]
    return inbound.answer({"running": [_entry(gate, entries[gate.name].model) for gate in found]})


async def unload_all(request: Request) -> Response:
    _admin(request, "unloading every model")
    gates = services.of(request).models.gates.values()
    await _unload(request, [gate for gate in gates if gate.status.state not in _GONE])
    if request.method in ("GET", "HEAD"):
        return PlainTextResponse("OK")
    return inbound.answer({"msg": "ok"})


async def unload_one(request: Request) -> Response:
    gate = inbound.gate(request, request.path_params["id"])
    await _unload(request, [gate])
    return PlainTextResponse("OK")


async def logs(request: Request) -> Response:
    _admin(request, "reading the log")
    found, model = services.of(request).logs, request.query_params.get("model")
    if model:
        return PlainTextResponse(found.tail(found.of(inbound.gate(request, model).name)), headers=_SAFE)
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{services.of(request).config.server.root_path}/", status_code=302)
    return PlainTextResponse(found.tail(found.sources("")), headers=_SAFE)


async def follow(request: Request) -> Response:
    _admin(request, "reading the log")
    which = request.path_params.get("which", "")
    model = "" if which in ("", PROXY, UPSTREAM) else inbound.gate(request, which).name
    return _Lines(request, which, model)


class _Lines(StreamingResponse):
    """Lines as they come; ends with the connection, or with the server."""

    def __init__(self, request: Request, which: str, model: str) -> None:
        found = services.of(request).logs
        history = "no-history" not in request.query_params
        self._lines = found.follow(which, model, history=history)
        super().__init__(self._lines, media_type="text/plain", headers=_SAFE | {"x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with Connected(receive), aclosing(self._lines):
            await self.stream_response(send)


async def _unload(request: Request, gates: list[Gate]) -> None:
    """Returns when they are gone, or as long after as a drain may take."""
    found = services.of(request)
    for gate in gates:
        await found.models.command("unload", gate.name, context.of(request.scope).admin)
    try:
        async with Connected(request.receive), asyncio.timeout(found.config.shutdown.drain_timeout):
            for gate in gates:
                await gate.settled(_GONE)
    except TimeoutError:
        pass  # what runs has ended by now, and their processes are about to


def _entry(gate: Gate, model: Model) -> dict[str, object]:
    return {
        "model": gate.name,
        "state": STATES[gate.status.state],
        "cmd": "",
        "proxy": "",
        "ttl": max(0, round(gate.status.idle_timeout)),
        "name": model.title,
        "description": model.description,
    }


def _admin(request: Request, what: str) -> None:
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", f"{what} needs a key with admin = true")


ROUTES = [
    Route("/running", running),
    Route("/unload", unload_all),
    Route("/api/models/unload", unload_all, methods=["POST"]),
    Route("/api/models/unload/{id:path}", unload_one, methods=["POST"]),
    Route("/logs", logs),
    Route("/logs/stream", follow),
    Route("/logs/stream/{which:path}", follow),
]
