from __future__ import annotations

import pytest

from supervisor import config
from supervisor.control import Phase, Pong
from supervisor.liveness import Verdict, born, judge

LIMITS = config.Liveness()


def verdict(pongs: list[tuple[float, Pong]], now: float, state: str = "S") -> Verdict:
    vitals = born(0.0)
    for at, pong in pongs:
        vitals = vitals.heard(pong, at)
    return judge(vitals, now, LIMITS, lambda: state)[0]


def beating(until: int, phase: Phase, **more: float) -> list[tuple[float, Pong]]:
    return [(float(at), Pong(at, phase, **more)) for at in range(until + 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "now", "expected"),
    [
        ("S", 9.0, Verdict.HEALTHY),
        ("S", 12.0, Verdict.HUNG),
        ("R", 12.0, Verdict.HUNG),
        ("T", 12.0, Verdict.SUSPENDED),
        ("t", 200.0, Verdict.SUSPENDED),
        ("T", 302.0, Verdict.HUNG),
        ("D", 5000.0, Verdict.IN_KERNEL),
    ],
)
def test_silence_means_what_the_kernel_says(state: str, now: float, expected: Verdict) -> None:
    assert verdict(beating(0, Phase.IDLE), now, state) is expected


def test_an_idle_child_may_rest_for_ever() -> None:
    assert verdict(beating(5000, Phase.IDLE), 5000.5) is Verdict.HEALTHY
    assert verdict(beating(5000, Phase.STANDBY), 5000.5) is Verdict.HEALTHY


def test_a_slow_import_is_no_hang_until_the_boot_deadline() -> None:
    assert verdict([], 59.0) is Verdict.HEALTHY
    assert verdict([], 61.0) is Verdict.HUNG


def test_a_step_that_never_ends_is_a_hang_although_pongs_come() -> None:
    assert verdict(beating(59, Phase.DECODE, steps=7), 59.5) is Verdict.HEALTHY
    assert verdict(beating(61, Phase.DECODE, steps=7), 61.5) is Verdict.HUNG


def test_a_long_step_that_was_predicted_is_no_hang() -> None:
    assert verdict(beating(199, Phase.PREFILL, steps=7, expected=10.0), 199.5) is Verdict.HEALTHY
    assert verdict(beating(201, Phase.PREFILL, steps=7, expected=10.0), 201.5) is Verdict.HUNG


def test_progress_of_any_kind_starts_the_deadline_anew() -> None:
    pongs = [(float(at), Pong(at, Phase.DECODE, steps=at // 50)) for at in range(1000)]
    assert verdict(pongs, 999.5) is Verdict.HEALTHY
    pongs = [(float(at), Pong(at, Phase.LOADING, progress=at / 2000)) for at in range(1000)]
    assert verdict(pongs, 999.5) is Verdict.HEALTHY


def test_the_first_step_and_the_warm_up_have_longer() -> None:
    assert verdict(beating(299, Phase.WARMUP), 299.5) is Verdict.HEALTHY
    assert verdict(beating(299, Phase.DECODE, steps=0), 299.5) is Verdict.HEALTHY
    assert verdict(beating(301, Phase.DECODE, steps=0), 301.5) is Verdict.HUNG


def test_a_child_that_is_stopped_in_the_midst_of_a_step_is_not_hung_although_a_step_may_take_less() -> None:
    limits = config.Liveness(step_timeout=2.0, pong_timeout=10.0)
    vitals = born(0.0).heard(Pong(1, Phase.DECODE, steps=7), 1.0)
    assert judge(vitals, 9.0, limits, lambda: "T")[0] is Verdict.HEALTHY
    assert judge(vitals, 12.0, limits, lambda: "T")[0] is Verdict.SUSPENDED


def test_a_child_that_goes_on_after_a_stop_has_its_whole_deadline_again() -> None:
    vitals = born(0.0).heard(Pong(1, Phase.DECODE, steps=7), 1.0).heard(Pong(2, Phase.DECODE, steps=7), 201.0)
    assert judge(vitals, 201.5, LIMITS, lambda: "S")[0] is Verdict.HUNG
    vitals = born(0.0).heard(Pong(1, Phase.DECODE, steps=7), 1.0)
    vitals = vitals.heard(Pong(2, Phase.DECODE, steps=7), 201.0, paused=True)
    assert judge(vitals, 201.5, LIMITS, lambda: "S")[0] is Verdict.HEALTHY


def test_amnesty_restarts_every_deadline() -> None:
    vitals = born(0.0).heard(Pong(1, Phase.DECODE, steps=3), 1.0).forgiven(1000.0)
    assert judge(vitals, 1005.0, LIMITS, lambda: "S")[0] is Verdict.HEALTHY
    assert judge(vitals, 1011.0, LIMITS, lambda: "S")[0] is Verdict.HUNG
