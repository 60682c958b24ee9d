"""What may be answered to a request, whatever it was."""

from __future__ import annotations

import json
from typing import Any

from proxy.dialects import error_shapes
from proxy.errors import STATUS


def judge(path: str, status: int, kind: str, body: bytes, server_errors: tuple[int, ...] = (501,)) -> None:
    """Raises AssertionError for a server error, an error in another dialect's shape, or a stream without an end."""
    if status >= 400:
        assert status < 500 or status in server_errors, f"{status}: {body[:500]!r}"
        _error(path, status, json.loads(body))
    elif kind.startswith("application/json"):
        json.loads(body)
    elif kind.startswith("application/x-ndjson"):
        last = json.loads(body.splitlines()[-1])
        assert last.get("done") or "error" in last or last.get("status") == "success", last
    elif kind.startswith("text/event-stream"):
        _stream(path, body)


def _error(path: str, status: int, found: Any) -> None:
    shape = error_shapes.of(path)
    error = found["error"]
    if shape is error_shapes.ollama:
        assert found.keys() == {"error"}, found
        assert isinstance(error, str), found
        return
    assert isinstance(error["message"], str), found
    assert STATUS[error["code"]][0] == status, found
    assert error["code"] != "internal_error", found
    if shape is error_shapes.anthropic:
        assert (found["type"], type(found["request_id"])) == ("error", str), found
    else:
        assert error["status"] == status, found


def _stream(path: str, body: bytes) -> None:
    """Ends in its dialect's way, or with an error, and never with both."""
    last = body.rstrip().rpartition(b"\n\n")[2]
    ended = last == b"data: [DONE]" or b"message_stop" in last or b"response.completed" in last
    ended = ended or b"response.incomplete" in last or b'"stop":true' in last or b'"finish_reason":"' in last
    assert ended != (b'"error":{' in last), last[:500]
