"""The OpenAPI document: every route of the app, with what the tables say of it."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from starlette.routing import Route

from proxy.description import anthropic, llama, models, ollama, openai, server
from proxy.description.operation import Access, Answer, Operation, Parameter
from proxy.description.schemas import Schema, Schemas
from proxy.dialects import error_shapes
from proxy.errors import STATUS

OPERATIONS: dict[str, Operation] = {  # "METHOD /path"; further paths of the same handler are aliases
    **openai.OPERATIONS,
    **anthropic.OPERATIONS,
    **ollama.OPERATIONS,
    **llama.OPERATIONS,
    **models.OPERATIONS,
    **server.OPERATIONS,
}
_UNKNOWN = Operation("Server", "Not described", Answer("An answer."))
_INTRO = """Many GGUF models behind one endpoint: OpenAI's API, llama-server's, Anthropic's, Ollama's and llama-swap's.

A request names a model, which is loaded if need be. Unknown fields are ignored, and null is the same as absent. \
`/upstream/{model}/{path}` is `path` with that model. Every answer has an `X-Request-Id`. \
An error names the field, and what is legal there."""
_TAGS = {
    "Chat": "Conversations, in the words of OpenAI and Anthropic.",
    "Text": "Completions of a text.",
    "Vectors": "Embeddings and reranking.",
    "Tokens": "Texts, tokens and templates.",
    "Ollama": "What clients of Ollama ask for.",
    "Models": "What there is; loading, fetching and deleting.",
    "Requests": "What runs and waits.",
    "llama-swap": "What clients of llama-swap ask for.",
    "Server": "The server itself.",
    "Pages": "For browsers.",
}
_SCHEMES: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "The password is the key."},
}
_CONVERTER = re.compile(r":\w+}")
_NAME = re.compile(r"{(\w+)}")


class ErrorObject(Struct):
    """`type` is llama-server's word; `code` says which error it is, `param` which field. Some have more."""

    message: str
    type: str
    code: str
    status: int
    param: str | None


class Error(Struct):
    error: ErrorObject


class AnthropicErrorObject(Struct):
    type: str
    message: str
    code: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET


class AnthropicError(Struct):
    type: str
    error: AnthropicErrorObject
    request_id: str


class OllamaError(Struct):
    error: str


_SHAPES: dict[error_shapes.Shape, type[Struct]] = {
    error_shapes.openai: Error,
    error_shapes.anthropic: AnthropicError,
    error_shapes.ollama: OllamaError,
}


def document(routes: Iterable[Route], root_path: str) -> dict[str, Any]:
    """All of it. `root_path`: below which path everything is, "" for none."""
    schemas, paths = Schemas(), dict[str, dict[str, Any]]()
    for path, method, operation, alias in described(routes):
        found = _operation(path, method, operation, schemas)
        paths.setdefault(path, {})[method.lower()] = found | ({"x-alias-of": alias} if alias else {})
    return {
        "openapi": "3.1.0",
        "info": {"title": "llama-supervisor", "version": _version(), "description": _INTRO},
        "servers": [{"url": root_path or "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{name: []} for name in _SCHEMES],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": schemas.responses,
            "securitySchemes": _SCHEMES,
        },
    }


def described(routes: Iterable[Route]) -> list[tuple[str, str, Operation, str]]:
    """Path, method and description of every route, and of which other path it is an alias."""
    known = {
        (route.endpoint, method): path for route, method, path in _each(routes) if f"{method} {path}" in OPERATIONS
    }
    found = []
    for route, method, path in _each(routes):
        first = path if f"{method} {path}" in OPERATIONS else known.get((route.endpoint, method), path)
        operation = OPERATIONS.get(f"{method} {first}", _UNKNOWN)
        found.append((path, method, operation, "" if first == path else first))
    return found


def undescribed(routes: Iterable[Route]) -> list[str]:
    """The routes of which no table says anything."""
    return [f"{method} {path}" for path, method, operation, _ in described(routes) if operation is _UNKNOWN]


def _each(routes: Iterable[Route]) -> Iterable[tuple[Route, str, str]]:
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield route, method, _CONVERTER.sub("}", route.path)


def _operation(path: str, method: str, told: Operation, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tags": [told.tag],
        "summary": told.summary,
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path}").strip("_"),
        "x-access": told.access.name.lower(),
    }
    if told.more or told.access is Access.ADMIN:
        needs = f"It {told.access.value}." if told.access is Access.ADMIN else ""
        found["description"] = f"{told.more} {needs}".strip()
    if told.access is Access.PUBLIC:
        found["security"] = []
    given = [Parameter(name, "", place="path", required=True) for name in _NAME.findall(path)]
    if parameters := [_parameter(each, schemas) for each in (*given, *told.query)]:
        found["parameters"] = parameters
    if told.body is not None:
        schema = schemas.body(told.body.name, told.body.kinds, told.body.instead)
        content: dict[str, Any] = {"schema": schema, "example": dict(told.body.example)}
        if told.body.many:
            content = {"schema": {"type": "array", "items": schema}, "example": [content["example"]]}
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    return found | {
        "responses": {str(told.answer.status): _answer(told.answer, schemas)} | _errors(path, told.refuses, schemas)
    }


def _parameter(each: Parameter, schemas: Schemas) -> dict[str, Any]:
    found = {"name": each.name, "in": each.place, "required": each.required, "schema": schemas.of(each.kind)}
    return found | ({"description": each.text} if each.text else {})


def _answer(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer.content is not None:
        content[answer.media] = {"schema": schemas.of(answer.content)}
    elif answer.record is None and answer.status == 200:
        content[answer.media] = {"schema": {"type": "string"}}
    if answer.record is not None:  # OpenAPI 3.1 has no word for what one record of a stream is; 3.2 calls it so
        content[answer.stream] = {"schema": {"type": "string"}, "x-itemSchema": schemas.of(answer.record)}
    return {"description": answer.text, "content": content}


def _errors(path: str, refuses: Iterable[int], schemas: Schemas) -> dict[str, Any]:
    """In the shape of the path's dialect, with the codes that a status has."""
    kind = _SHAPES[error_shapes.of(path)]
    for status in refuses:
        content = {"application/json": {"schema": schemas.of(kind)}}
        schemas.responses[f"{kind.__name__}{status}"] = {"description": _codes(status), "content": content}
    return {str(status): {"$ref": f"#/components/responses/{kind.__name__}{status}"} for status in sorted(refuses)}


def _codes(status: int) -> str:
    codes = [code for code, (own, _) in STATUS.items() if own == status]
    return ", ".join(f"`{code}`" for code in codes) or "Refused."


def _version() -> str:
    try:
        return importlib.metadata.version("llama-supervisor")
    except importlib.metadata.PackageNotFoundError:
        return "0"  # a checkout that is not installed
