"""Fetching models and deleting them. API.md, 2.1."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy import context, services
from proxy.dialects.fields import typed
from proxy.dialects.management import Fetch
from proxy.errors import ApiError, BadRequest
from proxy.gate import Gate
from proxy.routes import inbound

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?::[A-Za-z0-9][\w.-]*)?", re.ASCII)
_LONGEST = 190  # characters; with the quantization it is a model's name


async def pull(request: Request) -> Response:
    """Begins a download; answered once the hub has said what there is to fetch."""
    demand_admin(request, "downloading a model")
    name = checked(typed(await inbound.json_body(request), Fetch).model, request)
    answer = await services.of(request).models.command("pull", name, admin=True)
    return inbound.answer({"success": True, "model": answer.model})


async def remove(request: Request) -> Response:
    """Answered once the model has stopped and its files are gone."""
    demand_admin(request, "deleting a model")
    gate = inbound.gate(request, request.query_params.get("model") or missing(), fallback=False)
    await discard(request, gate)
    return inbound.answer({"success": True})


async def discard(request: Request, gate: Gate) -> None:
    """Returns once the model and its files are gone. Raises ApiError."""
    if (asked := context.of(request.scope).model) != gate.name:
        raise ApiError("not_removable", f"{asked} is a variant of {gate.name}, and has no files of its own")
    await services.of(request).models.command("remove", gate.name, admin=True)


def demand_admin(request: Request, what: str) -> None:
    """Raises ApiError."""
    if not context.of(request.scope).admin:
        raise ApiError("admin_required", f"{what} needs a key with admin = true")


def checked(name: str, request: Request) -> str:
    """What is to be fetched: "user/repo", "user/repo:QUANT", or a model of the configuration. Raises BadRequest."""
    if not name:
        missing()
    if name in services.of(request).models.gates:
        return name
    parts = name.partition(":")[0].split("/")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or any(".." in part or "--" in part for part in parts):
        raise BadRequest(f'model: expected "user/repo" or "user/repo:QUANT", got {name!r:.220}', "model")
    return name


def missing() -> str:
    raise BadRequest("model: required", "model", "missing_model")


ROUTES = [Route("/models", pull, methods=["POST"]), Route("/models", remove, methods=["DELETE"])]
