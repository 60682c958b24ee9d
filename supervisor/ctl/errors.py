"""Why a command failed, and the exit code that says so.

CtlError             1   anything else that went wrong; the text says what, where and the way out
├── BadUsage         2   the words of the command line, or a file or variable that they name
├── Unreachable     69   nobody answers at the address, or nobody who speaks HTTP
└── Refused       1, 77  the server said no; 77: the key is missing, wrong, or may not do this
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CtlError(Exception):
    exit_code = 1
    code = "failed"

    @property
    def object(self) -> dict[str, Any]:
        """As --json prints it, in the server's own shape."""
        return {"error": {"message": str(self), "code": self.code}}


class BadUsage(CtlError):
    exit_code = 2
    code = "usage"


class Unreachable(CtlError):
    exit_code = 69  # EX_UNAVAILABLE of sysexits.h
    code = "unreachable"


class Refused(CtlError):
    """`error` is the server's error object. API.md, 1.3."""

    def __init__(self, status: int, error: Mapping[str, Any], hint: str = "") -> None:
        self.status, self.error = status, dict(error)
        self.code = str(error.get("code", "")) or f"http_{status}"
        self.exit_code = 77 if status in (401, 403) else 1  # EX_NOPERM
        message = str(error.get("message", "")) or f"the server answered {status}"
        super().__init__(f"{message}; {hint}" if hint else message)

    @property
    def object(self) -> dict[str, Any]:
        return {"error": self.error or super().object["error"]}
