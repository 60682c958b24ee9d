"""llama.cpp's own objects of a completion: one that ends it, and one for a part of a stream. API.md, 7.1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from proxy.dialects import logprobs, results
from proxy.dialects.fields import Fields
from proxy.dialects.reply import Choice, Reply
from supervisor.config import Sampling
from worker.protocol import Details, Probability

_STOP_TYPES = {"eos": "eos", "word": "word", "limit": "limit", "context": "limit"}
_TOLD = (
    "stream", "timings_per_token", "post_sampling_probs", "cache_prompt", "n_probs", "n_keep", "n_discard",
    "n_indent", "t_max_predict_ms", "id_slot", "return_tokens", "return_progress", "grammar", "json_schema",
)  # fmt: skip


def whole(reply: Reply, index: int, content: str, ids: Sequence[int]) -> dict[str, Any]:
    """A choice that has ended."""
    choice, leader = reply.choices[index], _leader(reply, index)
    finished = choice.finished
    assert finished is not None
    details = finished.details
    return {
        "index": index,
        "content": content,
        "tokens": list(ids),
        "id_slot": choice.slot,
        "stop": True,
        "model": reply.model,
        "tokens_predicted": finished.timings.predicted_n,
        "tokens_evaluated": leader.prompt_tokens,
        "generation_settings": settings(reply.fields, details) if details else {},
        "prompt": leader.prompt,
        "has_new_line": details.new_line if details else "\n" in content,
        "truncated": finished.reason == "context",
        "stop_type": _STOP_TYPES.get(finished.reason, "none"),
        "stopping_word": finished.stop_word,
        "tokens_cached": details.cached if details else 0,
        "timings": results.timings(finished.timings),
    }


def beside(reply: Reply) -> dict[str, Any]:
    """What an answer in another dialect says in addition, to an admin who asks for it with `verbose`."""
    if not reply.verbose:
        return {}
    found = [whole(reply, index, reply.full_text(index), choice.ids) for index, choice in enumerate(reply.choices)]
    return {"__verbose": found if len(found) > 1 else found[0]}


def part(reply: Reply, index: int, content: str, ids: Sequence[int]) -> dict[str, Any]:
    """A choice that goes on."""
    choice = reply.choices[index]
    return {
        "index": index,
        "content": content,
        "tokens": list(ids),
        "stop": False,
        "id_slot": choice.slot,
        "tokens_predicted": choice.tokens,
        "tokens_evaluated": _leader(reply, index).prompt_tokens,
    }


def probabilities(reply: Reply, found: Sequence[Probability]) -> dict[str, Any]:
    """The field for these tokens; none, no field."""
    if not found:
        return {}
    return {"completion_probabilities": logprobs.content(found, after=reply.fields.post_sampling_probs)}


def settings(fields: Fields, details: Details) -> dict[str, Any]:
    """The parameters a reply was made with; sent back as a request they mean the same."""
    told = {name: getattr(fields, name) for name in _TOLD}
    return parameters(details.sampling) | told | {"stop": list(fields.stops), "lora": scales(details.lora)}


def scales(adapters: Iterable[tuple[int, float]]) -> list[dict[str, Any]]:
    """Ids and scales of LoRA adapters as a request gives them."""
    return [{"id": id, "scale": scale} for id, scale in adapters]


def parameters(sampling: Sampling) -> dict[str, Any]:
    """Sampling parameters under the names that a request gives them."""
    found: dict[str, Any] = {name: getattr(sampling, name) for name in sampling.__struct_fields__}
    bias = sampling.logit_bias or ()
    found["logit_bias"] = [[token, False if math.isinf(value) else value] for token, value in bias]
    return found | {"n_predict": sampling.max_tokens}


def chosen(found: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Only what is asked for: `a/b` is the b in a, under the name `a/b`. Unknown names are left out; no names: all."""
    if not paths:
        return found
    picked = ((path, _pick(found, path.split("/"))) for path in paths)
    return {path: value[0] for path, value in picked if value}


def _pick(value: Any, names: Sequence[str]) -> tuple[Any, ...]:
    """The value at the end of a path, alone; () if there is none."""
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return ()
        value = value[name]
    return (value,)


def _leader(reply: Reply, index: int) -> Choice:
    """The first choice of the same prompt, which has the prompt's figures."""
    return reply.choices[index - index % (1 + len(reply.fields.siblings))]
