"""What the steps give goes out at once, or a few short steps' together."""

from __future__ import annotations

from collections.abc import Sequence

from worker.bundle import Bundle
from worker.protocol import Delta, Event, Failed


class Sent:
    """An outbox that notes what it is given."""

    def __init__(self) -> None:
        self.puts: list[tuple[int, list[Event]]] = []

    def put(self, link: int, events: Sequence[Event]) -> None:
        self.puts.append((link, list(events)))

    def backlog(self, link: int) -> int:
        return 0


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


WORD, OTHER = Delta(1, "a", 1), Delta(2, "b", 1)


def bundle(patience: float) -> tuple[Bundle, Sent, Clock]:
    sent, clock = Sent(), Clock()
    return Bundle(sent, patience, clock), sent, clock


def test_text_waits_for_a_step_that_ends_within_its_patience() -> None:
    waiting, _, clock = bundle(0.01)
    waiting.add(7, [WORD])
    assert not waiting.due(0.006)
    clock.now += 0.006
    waiting.add(7, [OTHER])
    assert waiting.due(0.006), "the first would wait for 12 ms"


def test_text_does_not_wait_for_a_long_step() -> None:
    waiting, _, _ = bundle(0.01)
    waiting.add(7, [WORD])
    assert waiting.due(0.25)


def test_without_patience_nothing_waits() -> None:
    waiting, _, clock = bundle(0.0)
    waiting.add(7, [WORD])
    clock.now += 1e-6
    assert waiting.due(0.0)


def test_what_is_urgent_takes_along_what_waits() -> None:
    waiting, sent, _ = bundle(0.01)
    waiting.add(7, [WORD])
    waiting.add(8, [OTHER], urgent=True)
    assert waiting.due(0.0)
    waiting.send()
    assert sent.puts == [(7, [WORD]), (8, [OTHER])]
    waiting.add(7, [WORD])
    assert not waiting.due(0.0), "urgency ends with what was urgent"


def test_an_event_that_is_no_text_is_urgent() -> None:
    waiting, _, _ = bundle(0.01)
    waiting.add(7, [WORD, Failed(1, "internal_error", "x", {})])
    assert waiting.due(0.0)


def test_nothing_is_sent_twice() -> None:
    waiting, sent, _ = bundle(0.01)
    waiting.add(7, [WORD])
    waiting.send()
    waiting.send()
    assert sent.puts == [(7, [WORD])]
