"""Pure: is a child alive, suspended, stuck in the kernel, or hung? RELIABILITY.md, 5.

A pong proves that the process lives, the step counter that work goes on; neither replaces the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from supervisor import config
from supervisor.control import Phase, Pong

_FACTOR = 20  # a step may take this many times what the child itself predicts
_IDLE = {Phase.IDLE, Phase.STANDBY}


class Verdict(Enum):
    HEALTHY = auto()
    SUSPENDED = auto()  # stopped, or under a debugger: no new requests, no kill until its own deadline
    IN_KERNEL = auto()  # uninterruptible: a kill may not work, so wait
    HUNG = auto()


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of a child. Times are monotonic; `moved_at` is when phase, steps or progress last changed."""

    ponged_at: float
    moved_at: float
    ponged: bool = False  # pongs are demanded from the first one on: a slow import is no hang
    last: Pong = field(default_factory=lambda: Pong(0, Phase.BOOT))

    def heard(self, pong: Pong, now: float, *, paused: bool = False) -> Vitals:
        """After a pong. `paused`: until now the child could not work, and may not have done so again yet."""
        moved = paused or (pong.phase, pong.steps, pong.progress) != (
            self.last.phase,
            self.last.steps,
            self.last.progress,
        )
        return Vitals(now, now if moved else self.moved_at, True, pong)

    def forgiven(self, now: float) -> Vitals:
        """After the root itself was late: every deadline starts once more."""
        return replace(self, ponged_at=now, moved_at=now)


def born(now: float) -> Vitals:
    return Vitals(ponged_at=now, moved_at=now)


def judge(vitals: Vitals, now: float, limits: config.Liveness, kernel_state: Callable[[], str]) -> tuple[Verdict, str]:
    """The verdict and its reason in words. `kernel_state` gives /proc/PID/stat's letter; asked only when in doubt."""
    silent = now - vitals.ponged_at
    if vitals.ponged and silent > limits.pong_timeout:
        return _silent(silent, limits, kernel_state())
    # What a pong said, if there was one: a child that says nothing has not said that it stands still either.
    still, phase = (vitals.ponged_at if vitals.ponged else now) - vitals.moved_at, vitals.last.phase
    if phase not in _IDLE and still > (limit := _deadline(vitals.last, limits)):
        return Verdict.HUNG, f"no progress for {still:.0f} s in phase {phase} (limit {limit:.0f} s)"
    return Verdict.HEALTHY, ""


def _silent(silent: float, limits: config.Liveness, state: str) -> tuple[Verdict, str]:
    if state in ("T", "t"):
        if silent > limits.suspended_timeout:
            return Verdict.HUNG, f"stopped for {silent:.0f} s"
        return Verdict.SUSPENDED, f"stopped by a signal or a debugger for {silent:.0f} s"
    if state == "D":
        return Verdict.IN_KERNEL, f"in the kernel for {silent:.0f} s"
    return Verdict.HUNG, f"no pong for {silent:.0f} s (process state {state or 'unknown'})"


def _deadline(pong: Pong, limits: config.Liveness) -> float:
    match pong.phase:
        case Phase.BOOT:
            return limits.boot_timeout
        case Phase.LOADING | Phase.DOWNLOADING:
            return limits.load_timeout
        case Phase.WARMUP:
            return limits.first_step_timeout
        case _ if pong.steps == 0:
            return limits.first_step_timeout
        case _:
            return max(limits.step_timeout, _FACTOR * pong.expected)
