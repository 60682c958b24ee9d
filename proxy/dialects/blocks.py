"""A reply as a row of blocks (reasoning, text, calls of tools) in the order in which the model wrote them.

Streamed and unstreamed answers are both made from these steps, so they cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from worker.protocol import CallDelta, CallStart, Delta, Event, Probability, Reasoning


class Kind(Enum):
    REASONING = "reasoning"
    TEXT = "text"
    CALL = "call"


@dataclass
class Block:
    """`id` and `name` are of a call, and `texts` then its arguments; `probs` are of text, where they were asked for."""

    index: int
    kind: Kind
    id: str = ""
    name: str = ""
    texts: list[str] = field(default_factory=list)
    probs: list[Probability] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(frozen=True)
class Opened:
    block: Block


@dataclass(frozen=True)
class Grown:
    block: Block
    text: str
    probs: Sequence[Probability] = ()


@dataclass(frozen=True)
class Closed:
    block: Block


Step = Opened | Grown | Closed


class Blocks:
    """Only the last block is open; the next one closes it."""

    def __init__(self) -> None:
        self.all: list[Block] = []
        self._open: Block | None = None

    @property
    def called(self) -> bool:
        return any(block.kind is Kind.CALL for block in self.all)

    def text(self, kind: Kind) -> str:
        """The blocks of one kind put together."""
        return "".join(block.text for block in self.all if block.kind is kind)

    def take(self, events: Iterable[Event]) -> list[Step]:
        """What a batch does; texts of one block that follow each other are one step."""
        steps: list[Step] = []
        for event in events:
            for step in self._steps(event):
                last = steps[-1] if steps else None
                if isinstance(step, Grown) and isinstance(last, Grown):
                    steps[-1] = Grown(last.block, last.text + step.text, (*last.probs, *step.probs))
                else:
                    steps.append(step)
        return steps

    def finish(self) -> list[Step]:
        """The reply has ended."""
        block, self._open = self._open, None
        return [Closed(block)] if block else []

    def _steps(self, event: Event) -> Iterator[Step]:
        match event:
            case Delta():
                yield from self._grow(Kind.TEXT, event.text, event.probs or ())
            case Reasoning():
                yield from self._grow(Kind.REASONING, event.text)
            case CallStart():
                yield from self._begin(Kind.CALL, event.call_id, event.name)
            case CallDelta():
                assert self._open is not None, "a call's arguments follow its start"
                assert self._open.kind is Kind.CALL
                yield from self._grow(Kind.CALL, event.text)
            case _:
                pass

    def _grow(self, kind: Kind, text: str, probs: Sequence[Probability] = ()) -> Iterator[Step]:
        if not text and not probs:
            return
        if self._open is None or self._open.kind is not kind:
            yield from self._begin(kind)
        assert self._open is not None
        self._open.texts.append(text)
        self._open.probs += probs
        yield Grown(self._open, text, probs)

    def _begin(self, kind: Kind, id: str = "", name: str = "") -> Iterator[Step]:
        yield from self.finish()
        self._open = Block(len(self.all), kind, id, name)
        self.all.append(self._open)
        yield Opened(self._open)
