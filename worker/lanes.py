"""The places of those that run: which one a request gets, and what was said last at each. Pure. API.md, 7.2.

Clients know a lane as a slot. What is in the cache does not belong to lanes, but to the prefix tree; a lane remembers
the tokens, so that a slot can be saved, restored and erased as llama-server's users know it. So a conversation stays
at its lane while that is free, and another one goes where nothing was said for longest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from worker.adapter_set import BARE, AdapterSet
from worker.prefix_tree import Ids, common

_CLOSING = 8  # tokens at a prompt's end that often are others in the next turn
_NONE = np.zeros(0, np.int32)


@dataclass(slots=True)
class _Lane:
    """`text`: what was left there; `prompt`: so many tokens it began with; `left`: when, as a count.

    `adapters`: with which it was computed.
    """

    text: Ids = field(default_factory=lambda: _NONE)
    adapters: AdapterSet = BARE
    prompt: int = 0
    left: int = 0
    taken: bool = False
    coming: int = 0  # tokens of the prompt of who is there now


class Lanes:
    """So many, numbered from 0."""

    def __init__(self, count: int) -> None:
        self._lanes = [_Lane() for _ in range(count)]
        self._count = 0

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def full(self) -> bool:
        return all(lane.taken for lane in self._lanes)

    def taken(self, lane: int) -> bool:
        return self._lanes[lane].taken

    def text(self, lane: int) -> Ids:
        """The tokens that were in the cache when the last one left."""
        return self._lanes[lane].text

    def adapters(self, lane: int) -> AdapterSet:
        """With which they were computed."""
        return self._lanes[lane].adapters

    def take(self, tokens: Ids, adapters: AdapterSet = BARE, wanted: int = -1) -> int:
        """A lane for a request with this prompt: the wanted one if it is free. One must be free."""
        free = [number for number, lane in enumerate(self._lanes) if not lane.taken]
        assert free, "more requests run than there are lanes"
        number = wanted % len(self._lanes) if wanted >= 0 else -1
        if number not in free:
            same = {each: self._continued(each, tokens, adapters) for each in free}
            number = max(free, key=lambda each: (same[each], -self._lanes[each].left, -each))
        self._lanes[number].taken, self._lanes[number].coming = True, len(tokens)
        return number

    def leave(self, lane: int, text: Ids | None, adapters: AdapterSet = BARE) -> None:
        """Who was there has left this text in the cache; None: nothing, and what was there before stays."""
        found = self._lanes[lane]
        found.taken = False
        if text is not None:
            self._count += 1
            found.text, found.prompt, found.left = text.copy(), found.coming or len(text), self._count
            found.adapters = adapters

    def forget(self, lane: int) -> None:
        """Nothing was ever said there."""
        self._lanes[lane] = _Lane()

    def _continued(self, number: int, tokens: Ids, adapters: AdapterSet) -> int:
        """Tokens of this lane's conversation that the prompt goes on from; 0 if it is another one."""
        lane = self._lanes[number]
        shared = common(lane.text, tokens) if lane.adapters == adapters else 0
        return shared if 0 < shared >= lane.prompt - _CLOSING else 0
