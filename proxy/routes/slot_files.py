"""POST /slots/{id}: a slot's state into a file, back from one, or forgotten. For admins. API.md, 7.2."""

from __future__ import annotations

from contextlib import AsyncExitStack

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects import slot_files
from proxy.errors import ApiError, Unsupported
from proxy.gate import Gate, Wait
from proxy.refusals import queue_full
from proxy.routes import inbound
from worker.protocol import MAX_FRAME, SlotAction, SlotDone


async def act(request: Request) -> Response:
    """Only a restore has the model loaded: where none is, there is nothing to save or to forget."""
    found, who = services.of(request), context.of(request.scope)
    if not who.admin:
        raise ApiError("admin_required", "POST /slots/{id} needs a key with admin = true")
    if not found.config.server.slot_save_path:
        way = "[server] slot_save_path may name a folder for them"
        raise Unsupported("slot_save", message=f"states of slots are not kept in files: {way}")
    body = await inbound.json_body(request)
    ask = slot_files.parse(request.path_params["id"], request.query_params.get("action"), body, who.request_id)
    gate = inbound.gate(request, body.get("model") or request.query_params.get("model"), fallback=False)
    if who.key is not None:
        who.permit = found.limits.admit(who.key)
    async with Connected(request.receive):
        return inbound.answer(slot_files.done(ask, ask.slot, await _done(request, gate, ask)))


async def _done(request: Request, gate: Gate, ask: SlotAction) -> SlotDone:
    """Has the worker do it that has the slot. Raises ApiError."""
    who = context.of(request.scope)
    async with AsyncExitStack() as leases:
        if ask.action == "restore" and not gate.admits:
            wait = Wait(MAX_FRAME, who.stall, inbound.autoload(request), who.admin)
            await leases.enter_async_context(await gate.acquire(wait))
        generation, slot = gate.slot(ask.slot)
        if generation.link.full:
            raise queue_full(gate.name, gate.waiting, services.of(request).config.admission.max_queue)
        lease = await leases.enter_async_context(generation.admit(MAX_FRAME, who.stall))
        lease.stream.begun = True  # another worker has another cache: it is never repeated there
        lease.stream.send([replace(ask, slot=slot)])
        (event,) = [event async for events in lease.stream.batches() for event in events]
        assert isinstance(event, SlotDone)
        return event


ROUTES = [Route("/slots/{id}", act, methods=["POST"])]
