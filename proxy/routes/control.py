"""POST /v1/chat/completions/control: a word to a completion that is under way. API.md, 4.1."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.dialects.fields import typed
from proxy.routes import inbound


class Control(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    action: Literal["reasoning_end"]
    model: str = ""


async def control(request: Request) -> Response:
    order = typed(await inbound.json_body(request), Control)
    call = services.of(request).running.find(order.id, context.of(request.scope))
    if call is not None and order.model and inbound.gate(request, order.model) is not call.gate:
        call = None
    if call is None:
        text = "no such completion is running with reasoning_control"
        return inbound.answer({"success": False, "message": text})
    call.end_reasoning()
    return inbound.answer({"success": True})


ROUTES = [
    Route("/v1/chat/completions/control", control, methods=["POST"]),
    Route("/chat/completions/control", control, methods=["POST"]),
]
