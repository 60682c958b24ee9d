"""Why a download ends without the model, in words that hold no secret."""

from __future__ import annotations

import re

_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")  # a storage's URL is signed: it lets anyone read


class Failed(Exception):
    """`code` is the API's: repo_not_found or download_failed."""

    def __init__(self, message: str, code: str = "download_failed") -> None:
        super().__init__(message)
        self.code = code


class Cancelled(Exception):
    """The root has said Stop."""


def clean(text: str, token: str) -> str:
    """One line, without queries of URLs and without the token."""
    line = _QUERY.sub(r"\1?…", " ".join(text.split()))
    return (line.replace(token, "…") if token else line)[:600]
