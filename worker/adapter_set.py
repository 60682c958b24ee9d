"""Which LoRA adapters a sequence is computed with, and whose turn it is where several sets run. Pure. ENGINE.md, 14.

What one set computed is of no use to another: each set has its own tree of prefixes and its own parked states.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from supervisor.config import Adapter

AdapterSet = tuple[tuple[int, float], ...]  # id and scale of each adapter that has an effect, by id
BARE: AdapterSet = ()  # the model alone
TURN = 0.05  # seconds a set keeps its turn while others wait: to change it takes 3.4 of SmolLM2's 5.5 ms (measured)


def of(scales: Iterable[tuple[int, float]]) -> AdapterSet:
    """The set of these ids and scales; of two about one adapter the last counts, and 0 is no effect."""
    return tuple(sorted((id, scale) for id, scale in dict(scales).items() if scale))


def configured(adapters: Iterable[Adapter]) -> AdapterSet:
    """What requests are computed with that do not say."""
    return of(enumerate(each.scale for each in adapters))


def root(adapters: AdapterSet) -> bytes:
    """What the names of parked states begin with; b"" for the model alone."""
    if not adapters:
        return b""
    packed = b"".join(struct.pack("<qd", id, scale) for id, scale in adapters)
    return hashlib.blake2b(packed, digest_size=16, person=b"lora").digest()


class Turns:
    """One set per batch: the sets of the sequences that run take turns, the one whose rows have waited longest first.

    A turn lasts TURN seconds and at least a step, so that the change costs little beside what is computed.
    """

    def __init__(self) -> None:
        self._now = BARE
        self._began = 0.0
        self._since: dict[AdapterSet, float] = {}  # of each that runs: when its last turn ended, or it came

    def next(self, running: Iterable[AdapterSet], now: float) -> AdapterSet:
        """Whose turn it is now (monotonic seconds), of the sets that run; there is at least one."""
        sets = dict.fromkeys(running)  # first come first
        self._since = {each: self._since.get(each, now) for each in sets}
        if self._now in sets and (len(sets) == 1 or now - self._began < TURN):
            return self._now
        if self._now in sets:
            self._since[self._now] = now
        self._now = min((each for each in sets if each != self._now), key=self._since.__getitem__)
        self._began = now
        return self._now
