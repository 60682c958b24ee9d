"""Objects that more than one dialect of the OpenAI family shows. API.md, 4.2."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from worker.protocol import Progress, Timings

FINGERPRINT = "b0-unknown"  # the proxy knows no llama.cpp build


class Counts(NamedTuple):
    """Tokens of an answer, as far as it has come."""

    prompt: int
    cached: int
    generated: int


def new_id(prefix: str) -> str:
    """`chatcmpl-` and the like, with 96 random bits."""
    return f"{prefix}{os.urandom(12).hex()}"


def finish_reason(reason: str, *, called: bool = False) -> str:
    """OpenAI's word for the worker's; `called`: the model has called tools."""
    if reason in ("limit", "context"):
        return "length"
    return "tool_calls" if called else "stop"


def usage(prompt: int, completion: int, cached: int, reasoning: int = 0) -> dict[str, Any]:
    """`reasoning`: tokens of the completion that were reasoning; said only where there was some."""
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning else {}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    } | details


def timings(raw: Timings) -> dict[str, Any]:
    """Counts, milliseconds and rates; the first token comes with the prompt, so the rates count one step less."""
    steps = max(raw.predicted_n - 1, 0)
    return {
        "cache_n": raw.cache_n,
        "prompt_n": raw.prompt_n,
        "prompt_ms": round(raw.prompt_ms, 3),
        "prompt_per_token_ms": _ratio(raw.prompt_ms, raw.prompt_n),
        "prompt_per_second": _ratio(1000.0 * raw.prompt_n, raw.prompt_ms),
        "predicted_n": raw.predicted_n,
        "predicted_ms": round(raw.predicted_ms, 3),
        "predicted_per_token_ms": _ratio(raw.predicted_ms, steps),
        "predicted_per_second": _ratio(1000.0 * steps, raw.predicted_ms),
    }


def summed(parts: list[Timings]) -> Timings:
    """Several prompts of one request: counts add up; their times run side by side."""
    if len(parts) == 1:
        return parts[0]
    return Timings(
        cache_n=sum(part.cache_n for part in parts),
        prompt_n=sum(part.prompt_n for part in parts),
        prompt_ms=sum(part.prompt_ms for part in parts),
        predicted_n=sum(part.predicted_n for part in parts),
        predicted_ms=max((part.predicted_ms for part in parts), default=0.0),
    )


def prompt_progress(event: Progress) -> dict[str, int]:
    return {
        "total": event.total,
        "cache": event.cached,
        "processed": event.processed,
        "time_ms": round(event.time_ms),
    }


def _ratio(over: float, under: float) -> float:
    return round(over / under, 3) if under else 0.0
