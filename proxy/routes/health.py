"""Is this server alive. Public. API.md, 3."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import services
from proxy.errors import ApiError
from proxy.models import shutting_down
from proxy.routes import inbound
from proxy.services import ROOT_SILENCE
from supervisor.control import State


async def health(request: Request) -> Response:
    """200 while the root speaks to us; with `?strict=1` also only while no model has failed."""
    found = services.of(request)
    if found.stopping:
        raise shutting_down()
    if found.root_silence > ROOT_SILENCE:
        raise ApiError("starting", f"the root process has been silent for {found.root_silence:.0f} s")
    if request.query_params.get("strict") == "1":
        gates = found.models.gates.values()
        failed = [gate.name for gate in gates if gate.status.state is State.FAILED or gate.status.suspended]
        if failed:
            raise ApiError("model_failed", f"not healthy: {', '.join(failed)}")
    return inbound.answer({"status": "ok"})


ROUTES = [
    Route("/health", health),
    Route("/v1/health", health),
]
