"""The checker says what clients must not see, and nothing about what they may."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.history import ANY, Entry, Hit, violations

PROMPT = '{"echo": {"rate": 30}} r1 one two three'
WHOLE = "r1 one two three"
ERROR = {"code": "worker_died", "message": "it ended"}


def entry(marks: list[str], text: str = WHOLE, **more: Any) -> Entry:
    return Entry("a", PROMPT, began=10.0, ended=12.0, text=text, marks=marks, **more)


def hit(model: str | None = "a", began: float = 11.0, ended: float = 13.0, closes: bool = False) -> Hit:
    return Hit(model, began, ended, 0.1, closes)


@pytest.mark.parametrize(
    ("seen", "hits"),
    [
        (entry(["done"]), []),
        (entry(["left"], "r1 one"), []),
        (entry(["error"], "r1 one", error=ERROR), [hit()]),
        (entry(["refused"], "", error=ERROR), [hit(ANY)]),
        (entry(["closed"], "r1", error=None), [hit(ANY, closes=True)]),
    ],
)
def test_what_may_be(seen: Entry, hits: list[Hit]) -> None:
    assert violations([seen], hits) == []


@pytest.mark.parametrize(
    ("seen", "hits", "word"),
    [
        (entry([]), [], "ends 0 times"),
        (entry(["error", "done"], error=ERROR), [hit()], "ends 2 times"),
        (entry(["done", "text after the end"]), [], "ends 2 times"),
        (entry(["done"], "r1 one two"), [], "10 of 16 characters"),
        (entry(["done"], "r1 one two three four"), [], "not its own"),
        (entry(["left"], "r2"), [], "not its own"),
        (entry(["error"], "r1", error=ERROR), [], "without a cause"),
        (entry(["error"], "r1", error=ERROR), [hit("b")], "without a cause"),
        (entry(["error"], "r1", error=ERROR), [hit(None)], "without a cause"),
        (entry(["error"], "r1", error=ERROR), [hit(began=12.5)], "without a cause"),
        (entry(["error"], "r1", error=ERROR), [hit(began=5.0, ended=9.0)], "without a cause"),
        (entry(["error"], "r1", error={}), [hit()], "not an error object"),
        (entry(["closed"], "r1"), [hit(ANY)], "without a word"),
        (entry(["unreachable"], ""), [hit(ANY, closes=True)], "no connection"),
    ],
)
def test_what_must_not_be(seen: Entry, hits: list[Hit], word: str) -> None:
    found = violations([seen], hits)
    assert len(found) == 1
    assert word in found[0]
