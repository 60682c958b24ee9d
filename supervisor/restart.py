"""Pure: how long a child that died waits before it is started again, and when to give up. RELIABILITY.md, 6."""

from __future__ import annotations

import random
from dataclasses import dataclass

from supervisor import config


@dataclass(frozen=True, slots=True)
class History:
    """The deaths of one child: when, on the monotonic clock, and how many in a row without a stable life between."""

    deaths: tuple[float, ...] = ()
    streak: int = 0


def after_death(
    history: History, now: float, lived: float, policy: config.Restart, draw: random.Random
) -> tuple[History, float | None]:
    """The new history, and the seconds to wait, or None to give up.

    `lived` is how long the child was ready. A life of `stable_after` resets the back-off. More than `max_deaths` deaths
    within `window` seconds is restart intensity exceeded.
    """
    streak = 1 if lived >= policy.stable_after else history.streak + 1
    recent = tuple(at for at in history.deaths if at > now - policy.window)
    history = History((*recent, now), streak)
    if len(history.deaths) > policy.max_deaths:
        return history, None
    delay = min(policy.backoff * 2.0 ** min(streak - 1, 64), policy.backoff_max)
    return history, delay * (1 + draw.uniform(-policy.jitter, policy.jitter))
