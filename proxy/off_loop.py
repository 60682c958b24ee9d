"""Work beside the event loop, for what would hold it up for milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def run(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of pure `work`, computed in a thread; where the system gives us none, here and now."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except RuntimeError:  # "can't start new thread"
        return work(*args, **kwargs)
