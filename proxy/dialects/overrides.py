"""What a request may say about the settings of one load: POST /models/load, "overrides". API.md, 2.1."""

from __future__ import annotations

from typing import Any, get_type_hints

from proxy.dialects.fields import bad, refused
from supervisor.config import Model
from supervisor.schema import Invalid, convert, near

# What a load is made with, and names no file: over HTTP nobody says which are opened. A chat_template is its text.
KEYS = (
    "n_ctx", "n_gpu_layers", "parallel", "threads", "n_batch", "n_ubatch", "prefill_time", "stream_delay",
    "flash_attention", "kv", "kv_cells", "swa_full", "mmap", "mlock", "chat_template",
)  # fmt: skip
_TYPES = get_type_hints(Model, include_extras=True)


def parse(said: object) -> dict[str, Any]:
    """The settings, checked like those of the configuration; null counts as absent. Raises BadRequest."""
    if not isinstance(said, dict):
        raise bad(("overrides",), "an object", said)
    return {key: _setting(key, value) for key, value in said.items() if value is not None or key not in KEYS}


def _setting(key: str, value: object) -> object:
    place = ("overrides", key)
    try:
        if key not in KEYS:
            raise Invalid(place, f"one of {', '.join(KEYS)}", value, near(key, list(KEYS)))
        return convert(value, _TYPES[key], path=place)
    except Invalid as error:
        raise refused(error) from None
