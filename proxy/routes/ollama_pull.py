"""Ollama's /api/pull and /api/delete. API.md, 9. A client that leaves stops its stream, not the download."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import context, services
from proxy.connected import Connected
from proxy.dialects import ollama_pull
from proxy.dialects.fields import typed
from proxy.dialects.management import OllamaNamed, OllamaPull
from proxy.dialects.reply import encode
from proxy.errors import ApiError
from proxy.feed import Reader
from proxy.routes import downloads, inbound
from proxy.routes.ollama import gate_of
from proxy.services import Services
from proxy.sse import NDJSON, EventStream
from supervisor.control import State


async def pull(request: Request) -> Response:
    downloads.demand_admin(request, "downloading a model")
    order = typed(await inbound.json_body(request), OllamaPull)
    name = order.said or downloads.missing()
    found, repository = services.of(request), ollama_pull.repository(name)
    wanted = name if name in found.models.gates else repository
    if not wanted:
        raise ApiError("repo_not_found", ollama_pull.NO_MANIFEST, param="model")
    pulling = Pull(found, downloads.checked(wanted, request))
    await pulling.begin()
    if order.stream:
        return _Lines(found, pulling)
    async with Connected(request.receive):
        async for line in pulling.lines():
            if "error" in line:
                raise ApiError("download_failed", line["error"])
    return inbound.answer(line)


async def delete(request: Request) -> Response:
    downloads.demand_admin(request, "deleting a model")
    name = typed(await inbound.json_body(request), OllamaNamed).said
    plain = ollama_pull.repository(name) if name.count("/") > 1 else name
    gate = gate_of(request, plain or downloads.missing())
    await downloads.discard(request, gate)
    return Response(status_code=200)


class Pull:
    """One model's download, followed. It may be under way already, or over."""

    def __init__(self, found: Services, wanted: str) -> None:
        self._found, self._wanted, self.name = found, wanted, ""
        self._reader: Reader | None = None
        self._begun = False  # by this one: how it ends is among the records

    async def begin(self) -> None:
        """Returns once the hub has said what there is to fetch. Raises ApiError."""
        self._reader = self._found.feed.subscribe(lambda name: True)
        try:
            answer = await self._found.models.command("pull", self._wanted, admin=True)
            self.name, self._begun = answer.model, True
        except ApiError as error:
            self.name = str(error.fields.get("model", ""))
            if error.code != "model_exists" or self.name not in self._found.models.gates:
                self.close()
                raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._reader is not None:
            self._found.feed.unsubscribe(self._reader)

    async def lines(self) -> AsyncGenerator[dict[str, Any], None]:
        """What Ollama says of it, to its end."""
        try:
            yield ollama_pull.BEGUN
            gate = self._found.models.gates.get(self.name)
            error = ""
            if self._begun or (gate is not None and gate.status.state is State.DOWNLOADING):
                async for line in self._progress():
                    error = line.get("error", "")
                    yield line
            for line in () if error else ollama_pull.DONE:
                yield line
        finally:
            self.close()

    async def _progress(self) -> AsyncGenerator[dict[str, Any], None]:
        assert self._reader is not None
        while records := await self._reader.take():
            for record in records:
                if record.model != self.name:
                    continue
                data = record.data or {}
                if record.event == "download_progress":
                    for line in ollama_pull.lines(data["progress"]):
                        yield line
                elif record.event == "download_finished":
                    return
                elif record.event in ("download_failed", "model_remove"):
                    yield {"error": data.get("message") or "the download was cancelled"}
                    return
        yield {"error": "the server cannot follow the download any more"}


class _Lines(Response):
    """The lines as they come."""

    def __init__(self, found: Services, pulling: Pull) -> None:
        self._found, self._pulling = found, pulling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server = self._found.config.server
        stream = EventStream.of_events(send, server, context.of(scope).cut, NDJSON)
        async with Connected(receive), stream, aclosing(self._pulling.lines()) as lines:
            await stream.open()
            async for line in lines:
                await stream.write(encode(line) + b"\n")
            await stream.close()


ROUTES = [Route("/api/pull", pull, methods=["POST"]), Route("/api/delete", delete, methods=["DELETE"])]
