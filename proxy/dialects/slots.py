"""A row of GET /slots in llama-server's shape, and the model's name. API.md, 3."""

from __future__ import annotations

from typing import Any

from proxy.dialects.native_object import parameters, scales
from worker.protocol import Place


def row(model: str, place: Place, before: int = 0, replica: int = 0) -> dict[str, Any]:
    """A place that never had a task is described by little.

    `before`: places of replicas before this one, so that ids differ; `replica`: its number where there may be several.
    """
    found: dict[str, Any] = {
        "id": before + place.id,
        "n_ctx": place.n_ctx,
        "speculative": False,
        "is_processing": place.busy,
        "model": model,
    } | ({"replica": replica} if replica else {})
    if not place.task:
        return found
    token = {
        "has_next_token": place.busy,
        "has_new_line": place.new_line,
        "n_remain": place.remain,
        "n_decoded": place.decoded,
    }
    return found | {
        "id_task": place.task,
        "n_prompt_tokens": place.prompt,
        "n_prompt_tokens_processed": place.processed,
        "n_prompt_tokens_cache": place.cached,
        "params": parameters(place.sampling) | {"lora": scales(place.lora)} if place.sampling else {},
        "next_token": [token],
    }
