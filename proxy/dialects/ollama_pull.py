"""Fetching a model as Ollama's clients see it: names and the lines of progress. Pure. API.md, 9."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

_HUBS = ("hf.co/", "huggingface.co/")
NO_MANIFEST = "pull model manifest: file does not exist"
BEGUN = {"status": "pulling manifest"}
DONE = ({"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"})


def repository(name: str) -> str:
    """ "user/repo:QUANT" of "hf.co/user/repo:QUANT"; "" if it is of another registry."""
    text = name.strip().removeprefix("https://").removesuffix(":latest")
    for hub in _HUBS:
        text = text.removeprefix(hub)
    return text if text.count("/") == 1 else ""


def lines(progress: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """One for each file. `digest` tells files apart; it is that of a file's URL, not of what is in it."""
    return [_line(url, each["done"], each["total"]) for url, each in progress.items()]


def _line(url: str, done: int, total: int) -> dict[str, Any]:
    digest = hashlib.sha256(url.encode()).hexdigest()
    return {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": total, "completed": done}
