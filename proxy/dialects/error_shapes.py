"""One error in the words of each dialect. API.md, 1.4. A request's path decides: errors before routing fit too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.errors import ApiError

Shape = Callable[[ApiError, str], tuple[int, dict[str, Any]]]  # error, request id → HTTP status, body

_ANTHROPIC_KINDS = {413: "request_too_large", 500: "api_error", 501: "api_error", 503: "overloaded_error"}
_OLLAMA_BUSY = "server busy, please try again.  maximum pending requests exceeded"  # clients look for these words
_MESSAGES = ("/v1/messages", "/messages")
_LLAMA_SWAP = ("/api/models", "/api/events", "/api/inflight")


def openai(error: ApiError, request_id: str) -> tuple[int, dict[str, Any]]:
    """Ours, llama-server's and OpenAI's at once."""
    return error.status, error.object


def anthropic(error: ApiError, request_id: str) -> tuple[int, dict[str, Any]]:
    """What is in our object beside `status` stays in it; Anthropic's packages read type and message."""
    found = dict(error.object["error"])
    found["type"] = _ANTHROPIC_KINDS.get(found.pop("status"), found["type"])
    return error.status, {"type": "error", "error": found, "request_id": request_id}


def ollama(error: ApiError, request_id: str) -> tuple[int, dict[str, Any]]:
    """A text and nothing else; a full queue is 503 there."""
    if error.code == "queue_full":
        return 503, {"error": _OLLAMA_BUSY}
    text = str(error).replace('"', "'") if error.code == "model_not_found" else str(error)
    return error.status, {"error": text}


def of(path: str) -> Shape:
    """The shape for whoever asks for this path."""
    if path.startswith(_MESSAGES) or (path.startswith("/upstream/") and path.endswith(_MESSAGES)):
        return anthropic
    if path.startswith("/api/") and not path.startswith(_LLAMA_SWAP):
        return ollama
    return openai
