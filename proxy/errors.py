"""What a client is told when a request cannot be served, and the one mapping to HTTP. API.md, 1.3.

ApiError                 any code of the table below
├── BadRequest           400: `invalid_value` at the place `param`, unless another code is named
├── Unsupported          501: the request is sound, this model or build cannot do it
├── WorkerLost           500: the worker died or hung while serving this request
├── LoadFailed           503: the model cannot be loaded; carries the cause
└── Unloaded             503: the model was unloaded, or the server stopped, before the request was done
Gone                     nobody is left to answer
├── ClientGone           the client has closed the connection
└── ClientStalled        the client does not read; its connection is cut
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

_INVALID, _UNAVAILABLE = "invalid_request_error", "unavailable_error"
STATUS: dict[str, tuple[int, str]] = {
    "invalid_json": (400, _INVALID),
    "invalid_value": (400, _INVALID),
    "missing_field": (400, _INVALID),
    "missing_model": (400, _INVALID),
    "conflicting_fields": (400, _INVALID),
    "model_not_loaded": (400, _INVALID),
    "invalid_grammar": (400, _INVALID),
    "template_error": (400, _INVALID),
    "cancelled": (400, _INVALID),
    "config_invalid": (400, _INVALID),
    "context_length_exceeded": (400, "exceed_context_size_error"),
    "invalid_api_key": (401, "authentication_error"),
    "admin_required": (403, "permission_error"),
    "overrides_disabled": (403, "permission_error"),
    "origin_not_allowed": (403, "permission_error"),
    "endpoint_not_allowed": (403, "permission_error"),
    "not_removable": (403, "permission_error"),
    "feature_disabled": (403, "feature_disabled"),
    "model_not_found": (404, "not_found_error"),
    "not_found": (404, "not_found_error"),
    "repo_not_found": (404, "not_found_error"),
    "method_not_allowed": (405, _INVALID),
    "body_timeout": (408, _INVALID),
    "model_exists": (409, "conflict_error"),
    "sequence_busy": (409, "conflict_error"),
    "body_too_large": (413, _INVALID),
    "request_quarantined": (422, _INVALID),
    "headers_too_large": (431, _INVALID),
    "queue_full": (429, "rate_limit_error"),
    "key_rate_limited": (429, "rate_limit_error"),
    "internal_error": (500, "server_error"),
    "worker_died": (500, "server_error"),
    "worker_hung": (500, "server_error"),
    "unsupported_feature": (501, "not_supported_error"),
    "starting": (503, _UNAVAILABLE),
    "shutting_down": (503, _UNAVAILABLE),
    "queue_timeout": (503, _UNAVAILABLE),
    "model_unloaded": (503, _UNAVAILABLE),
    "model_load_failed": (503, _UNAVAILABLE),
    "model_backoff": (503, _UNAVAILABLE),
    "model_failed": (503, _UNAVAILABLE),
    "no_slot_available": (503, _UNAVAILABLE),
    "insufficient_memory": (503, _UNAVAILABLE),
    "download_failed": (503, _UNAVAILABLE),
    "storage_failed": (507, "server_error"),
}
_NEVER_RETRY = {
    "model_exists",
    "sequence_busy",
    "storage_failed",
    "worker_died",
    "worker_hung",
    "unsupported_feature",
    "model_failed",
    "insufficient_memory",
}  # 1.3, "Retries"
_RETRY_AFTER = {  # seconds
    "queue_full": 1.0,
    "starting": 1.0,
    "queue_timeout": 5.0,
    "model_unloaded": 1.0,
    "download_failed": 30.0,
}
_DEAF = {"shutting_down", "body_timeout"}  # after these the connection is closed


class ApiError(Exception):
    """An answer that is no success. `code` is a key of STATUS, `fields` go beside it into the error object."""

    def __init__(
        self, code: str, message: str, *, param: str | None = None, retry_after: float | None = None, **fields: Any
    ) -> None:
        super().__init__(message)
        self.code = code if code in STATUS else "internal_error"
        self.param, self.fields = param, fields
        self.extra: list[tuple[bytes, bytes]] = []  # further headers
        self.retry_after = retry_after if retry_after is not None else _RETRY_AFTER.get(code)

    @property
    def status(self) -> int:
        return STATUS[self.code][0]

    @property
    def object(self) -> dict[str, Any]:
        """`{"error": {...}}`, the body of the answer and the data of a stream's error record."""
        status, kind = STATUS[self.code]
        head = {"message": str(self), "type": kind, "code": self.code, "status": status, "param": self.param}
        return {"error": head | self.fields}

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        found = [(b"content-type", b"application/json"), *self.extra]
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
        if self.code in _NEVER_RETRY:
            found.append((b"x-should-retry", b"false"))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))  # Basic would open a browser's dialog
        if self.code in _DEAF:
            found.append((b"connection", b"close"))
        return found

    def body(self) -> bytes:
        return msgspec.json.encode(self.object)


class BadRequest(ApiError):
    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(code, message, param=param)


class Unsupported(ApiError):
    def __init__(self, feature: str, param: str | None = None, message: str = "") -> None:
        super().__init__("unsupported_feature", message or f"{feature} is not supported", param=param, feature=feature)


class WorkerLost(ApiError):
    def __init__(self, model: str, cause: str, message: str = "", signal: str = "") -> None:
        code = "worker_hung" if cause == "hung" else "worker_died"
        what = "stopped answering" if cause == "hung" else "ended"
        detail = f": {message}" if message else ""
        text = f"the worker of {model} {what} while serving this request{detail}"
        super().__init__(code, text, model=model, cause=cause, signal=signal or None)


class LoadFailed(ApiError):
    pass


class Unloaded(ApiError):
    pass


class Gone(Exception):
    outcome = ""  # in the list of requests, and in the metrics


class ClientGone(Gone):
    outcome = "client_gone"


class ClientStalled(Gone):
    outcome = "client_stalled"


def internal(request_id: str) -> ApiError:
    """A bug of ours, as a client may see it; the traceback is in the log under the same id."""
    return ApiError("internal_error", f"internal error; request id {request_id}")
