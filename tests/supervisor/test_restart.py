from __future__ import annotations

import random

import pytest

from supervisor import config
from supervisor.restart import History, after_death


def delays(times: list[float], lived: float, policy: config.Restart) -> list[float | None]:
    history, out = History(), []
    for at in times:
        history, delay = after_death(history, at, lived, policy, random.Random(0))
        out.append(delay)
    return out


def test_the_wait_doubles_up_to_its_limit() -> None:
    policy = config.Restart(jitter=0.0, max_deaths=100)
    assert delays([float(n) for n in range(8)], 0.0, policy) == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_stable_life_resets_the_wait() -> None:
    policy = config.Restart(jitter=0.0, max_deaths=100)
    assert delays([0.0, 100.0, 200.0], 60.0, policy) == [0.5, 0.5, 0.5]


def test_the_sixth_death_in_five_minutes_gives_up() -> None:
    assert delays([float(n) for n in range(6)], 0.0, config.Restart())[-2:] != [None, None]
    assert delays([float(n) for n in range(6)], 0.0, config.Restart())[-1] is None


def test_old_deaths_do_not_count() -> None:
    assert None not in delays([n * 61.0 for n in range(30)], 0.0, config.Restart())


def test_jitter_stays_within_its_share() -> None:
    policy, draw = config.Restart(jitter=0.2), random.Random(3)
    found = [after_death(History(), 0.0, 0.0, policy, draw)[1] for _ in range(200)]
    assert all(delay is not None and 0.4 <= delay <= 0.6 for delay in found)
    assert max(d for d in found if d) - min(d for d in found if d) > 0.1


@pytest.mark.parametrize("streak", [1, 10, 2000])
def test_a_long_streak_does_not_overflow(streak: int) -> None:
    _, delay = after_death(History((), streak), 0.0, 0.0, config.Restart(jitter=0.0), random.Random(0))
    assert delay is not None
    assert delay <= 30.0
