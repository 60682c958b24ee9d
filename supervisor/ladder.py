"""Pure: the rungs by which a process is brought to its end, kindly first. RELIABILITY.md, 5 and 7."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from supervisor import config

_DUMP_TIME = 1.0  # seconds after SIGUSR1: the dump is written by then, GIL held or not …
_DUMP_DELAY = 1.0  # … unless the machine stood still meanwhile
_CANCEL_TIME = 0.25


class Rung(Enum):
    """What is done to the process on entering the rung."""

    ASK = auto()  # Stop over the control socket
    TERM = auto()  # SIGTERM
    DUMP = auto()  # SIGUSR1: all stacks
    LINGER = auto()  # nothing, and for no time if the dump is there, or cannot come
    KILL = auto()  # SIGKILL
    GIVE_UP = auto()  # nothing works: the process is stuck in the kernel


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs still to come, each with the seconds it may take, and when the next one is due."""

    rungs: tuple[tuple[Rung, float], ...]
    due: float

    def climb(self, now: float) -> tuple[Ladder, Rung]:
        """The next rung, to be performed now, and the ladder above it."""
        if not self.rungs:
            return replace(self, due=float("inf")), Rung.GIVE_UP
        (rung, seconds), *rest = self.rungs
        return Ladder(tuple(rest), now + seconds), rung


def polite(limits: config.Shutdown, now: float) -> Ladder:
    """For a healthy process: ask, insist, then dump and kill."""
    asked = ((Rung.ASK, limits.stop_timeout), (Rung.TERM, limits.term_timeout))
    return Ladder((*asked, *_force(limits)), now)


def hung(limits: config.Shutdown, now: float) -> Ladder:
    """For a process that does not answer: dump its stacks, then kill."""
    return Ladder(_force(limits), now)


def cancel(limits: config.Shutdown, now: float) -> Ladder:
    """For a load that nobody awaits any more: it may be in C, where it hears nothing, and has nothing to lose."""
    return Ladder(((Rung.ASK, _CANCEL_TIME), (Rung.KILL, limits.kill_timeout)), now)


def _force(limits: config.Shutdown) -> tuple[tuple[Rung, float], ...]:
    return ((Rung.DUMP, _DUMP_TIME), (Rung.LINGER, _DUMP_DELAY), (Rung.KILL, limits.kill_timeout))
