"""Names as Ollama's clients write them: what has no tag is `:latest`."""

from __future__ import annotations

_LATEST = ":latest"


def shown(model: str) -> str:
    """An id as such clients expect it."""
    return model if ":" in model else f"{model}{_LATEST}"


def plain(name: str) -> str:
    """The name without the tag that says nothing."""
    return name.removesuffix(_LATEST)
