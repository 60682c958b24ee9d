"""Which replica of a model a request goes to: the one that holds what it begins with, or else the least busy one.

A request leaves a trail: a hash of its beginning up to each message, or up to each piece of a text. The next turn of a
conversation has the whole trail of the turn before it at its front. A system prompt alone, which all conversations
share, is no reason to crowd one replica; nor is anything, where the request would have to wait.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec

from worker.protocol import Chat, Generate, Infill, Request, Text

KEPT = 8192  # steps of trails that are remembered, the last ones
_PIECE, _TOKENS = 512, 128  # bytes of a text, tokens of a prompt, in one step
_LONGEST = 64  # steps of one trail
_PROMPTING = ("system", "developer")

Trail = tuple[bytes, ...]


class Candidate(Protocol):
    """A replica that admits. `free`: sequences that it has left; `leases`: requests that it has."""

    @property
    def name(self) -> str: ...

    @property
    def free(self) -> int: ...

    @property
    def leases(self) -> int: ...


C = TypeVar("C", bound=Candidate)


def trail(asks: Sequence[Request]) -> Trail:
    """Of what is asked first; () if nothing of it is worth finding again."""
    if not asks or not isinstance(asks[0], Generate):
        return ()
    steps, state = list[bytes](), blake2b(digest_size=16)
    for text, counts in _pieces(asks[0].prompt):
        state.update(len(text).to_bytes(8, "little") + text)
        if counts:
            steps.append(state.digest())
        if len(steps) == _LONGEST:
            break
    return tuple(steps)


def _pieces(prompt: Chat | Text | Infill) -> Iterator[tuple[bytes, bool]]:
    """The parts of a prompt, and whether one conversation can be told from others once they are the same up to it."""
    if isinstance(prompt, Chat):
        yield msgspec.json.encode(prompt.tools), False
        for message in prompt.messages:
            yield msgspec.json.encode(message), message.get("role") not in _PROMPTING
    elif isinstance(prompt, Text):
        tokens: list[int] = []
        for piece in prompt.pieces:
            if isinstance(piece, str):
                yield from _whole(piece.encode("utf-8", "surrogatepass"), _PIECE)
            else:
                tokens.append(piece)
        yield from _whole(array("q", tokens).tobytes(), 8 * _TOKENS)


def _whole(data: bytes, size: int) -> Iterator[tuple[bytes, bool]]:
    """Pieces of this size; the rest is left out, since the next turn goes on there."""
    return ((data[start : start + size], True) for start in range(0, len(data) - size + 1, size))


class Affinity:
    """What the replicas of one model have been asked."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, str] = OrderedDict()

    def choose(self, candidates: Sequence[C], trail: Trail) -> C:
        """One of the candidates, of which there is at least one; the trail leads to it from now on.

        Of those equally idle, the first one: so the last ones have nothing to do when there is little, and can go.
        """
        chosen = self._holder(candidates, trail) or min(candidates, key=lambda each: each.leases)
        for step in trail:
            self._held[step] = chosen.name
            self._held.move_to_end(step)
        while len(self._held) > KEPT:
            self._held.popitem(last=False)
        return chosen

    def _holder(self, candidates: Sequence[C], trail: Trail) -> C | None:
        """Who holds the most of it, if it has a sequence left, or nobody has."""
        name = next((self._held[step] for step in reversed(trail) if step in self._held), "")
        anybody = any(each.free for each in candidates)
        fit = (each for each in candidates if each.name == name and (each.free or not anybody))
        return next(fit, None)
