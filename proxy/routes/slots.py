"""GET /slots: what runs at the sequence places of loaded models; loads and disturbs nothing. API.md, 3."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.dialects.slots import row
from proxy.errors import ApiError, Unsupported
from proxy.links import Stream
from proxy.replica import Replica
from proxy.routes import inbound
from worker.protocol import MAX_FRAME, Look, Place, Seen

_PATIENCE = 2.0  # seconds for a worker, whose I/O thread answers whatever its engine does


async def slots(request: Request) -> Response:
    found, who = services.of(request), context.of(request.scope)
    if not found.config.server.slots:
        raise Unsupported("slots", message="GET /slots is turned off: server.slots = false")
    if name := request.query_params.get("model"):
        gates = [inbound.gate(request, name)]
    else:
        gates = [gate for name, gate in sorted(found.models.gates.items()) if who.key is None or who.key.sees(name)]
    workers = [(gate, replica) for gate in gates for replica in gate.replicas.values()]
    seen = await asyncio.gather(*(_look(replica) for _, replica in workers))
    rows: list[dict[str, Any]] = []
    for (gate, replica), places in zip(workers, seen, strict=True):
        before = sum(each["model"] == gate.name for each in rows)
        rows += [row(gate.name, place, before, replica.number if gate.several else 0) for place in places]
    if request.query_params.get("fail_on_no_slot") == "1" and not any(not each["is_processing"] for each in rows):
        raise ApiError("no_slot_available", "no slot is idle")
    return inbound.answer(rows)


async def _look(replica: Replica) -> list[Place]:
    """The places of a worker; none if there is no worker, or none that answers. No lease, so it stays idle."""
    generation = replica.current
    if generation is None or not generation.link.admits:
        return []
    stream = Stream(generation.link, MAX_FRAME, lambda: None)
    try:
        stream.send([Look(0)])
        async with asyncio.timeout(_PATIENCE):
            found = [event async for events in stream.batches() for event in events]
    except TimeoutError:
        return []
    finally:
        stream.close()
    return [place for event in found if isinstance(event, Seen) for place in event.places]


ROUTES = [Route("/slots", slots)]
