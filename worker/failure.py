"""What can go wrong in a worker.

WorkerError
├── LoadError      the model cannot be loaded: reported to the root as LoadFailed, then the process exits
├── RequestError   one request cannot be served: answered with Failed, nobody else notices
└── EngineError    the engine can no longer compute: the process exits and is restarted
"""

from __future__ import annotations

from typing import Any


class WorkerError(Exception):
    """Base of all."""


class LoadError(WorkerError):
    """`cause` is file_missing, file_corrupt, out_of_memory or load_error; `permanent`: trying again is no use."""

    def __init__(self, cause: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.cause, self.message, self.permanent = cause, message, permanent


class RequestError(WorkerError):
    """`code` is one of the API's error codes; `fields` are further fields of the error object."""

    def __init__(self, code: str, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.fields = code, message, fields


class EngineError(WorkerError):
    """llama.cpp fails at every decode."""
