"""Holds requests and answers to the OpenAPI description; the harness's client does so always."""

from __future__ import annotations

import functools
import json
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from proxy.app import ROUTES
from proxy.description.document import _CONVERTER, document

ANYWHERE = ("403", "429", "500", "503")  # a foreign page, a crowd, a bug of ours, the end of the server


class Client(httpx.AsyncClient):
    """Every whole answer is checked, of paths below `base`."""

    def __init__(self, base: str, **more: Any) -> None:
        super().__init__(**more)
        self.base = base

    async def send(self, request: httpx.Request, **more: Any) -> httpx.Response:
        response = await super().send(request, **more)
        if not more.get("stream") and request.url.path.startswith(self.base):
            check(request, response, request.url.path.removeprefix(self.base))
        return response


@functools.cache
def description() -> dict[str, Any]:
    return document(ROUTES, "")


@functools.cache
def _root() -> Draft202012Validator:
    return Draft202012Validator(description())


def operation(method: str, path: str) -> dict[str, Any] | None:
    """What is said of a route; None for a path that there is not, or that is below another one."""
    path = path.rstrip("/") or "/"
    for route in ROUTES:
        if method in (route.methods or ()) and route.path_regex.match(path):
            found: dict[str, Any] = description()["paths"][_CONVERTER.sub("}", route.path)][
                "get" if method == "HEAD" else method.lower()
            ]
            return found
    return None


def check(request: httpx.Request, response: httpx.Response, path: str) -> None:
    """Raises AssertionError where description and answer differ, or a request that was served was not described."""
    told = operation(request.method, path)
    if told is None or request.method == "HEAD" or response.status_code in (301, 302, 304, 308, 405):
        return
    place = f"{request.method} {request.url.path}"
    status = str(response.status_code)
    assert status in told["responses"] or status in ANYWHERE, (
        f"{place}: {status} is not described: {response.text[:200]}"
    )
    content = resolved(told["responses"].get(status, {})).get("content", {})
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind == "application/json" and response.content and (schema := content.get(kind, {}).get("schema")):
        fits(json.loads(response.content), schema, f"{place} → {status}")
    if response.is_success and "requestBody" in told and request.content:
        fits(json.loads(request.content), told["requestBody"]["content"]["application/json"]["schema"], place)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        found: Any = description()
        for key in node["$ref"].split("/")[1:]:
            found = found[key]
        node = found
    return node


def fits(value: Any, schema: dict[str, Any], place: str) -> None:
    error = next(_root().evolve(schema=schema).iter_errors(value), None)
    assert error is None, f"{place}: {error.json_path}: {error.message[:300]}"
