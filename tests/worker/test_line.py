"""Whose turn it is."""

from __future__ import annotations

from worker.line import Line


def order(line: Line[str], now: float = 0.0) -> list[str]:
    return [entry.work for entry in line.first(now)]


def test_first_come_first_served() -> None:
    line: Line[str] = Line()
    for name in "abc":
        line.add(name, "", 0, 0.0)
    assert order(line) == ["a", "b", "c"]


def test_priority_comes_first_but_waiting_raises_it() -> None:
    line: Line[str] = Line()
    line.add("low", "", 0, 0.0)
    line.add("high", "", 2, 8.0)
    assert order(line, 8.0) == ["high", "low"]
    assert order(line, 11.0) == ["low", "high"]  # two levels risen, and earlier


def test_the_interrupted_one_is_at_the_head_of_its_priority() -> None:
    line: Line[str] = Line()
    line.add("a", "", 0, 0.0)
    line.add("b", "", 0, 0.0, interrupted=True)
    line.add("c", "", 1, 0.0)
    assert order(line) == ["c", "b", "a"]


def test_who_was_served_least_goes_first() -> None:
    line: Line[str] = Line()
    for number in range(3):
        line.add(f"greedy{number}", "greedy", 0, 0.0)
    line.add("modest", "modest", 0, 0.0)
    line.serve("greedy", 1000)
    assert order(line)[0] == "modest"
    line.serve("modest", 5000)
    assert order(line)[-1] == "modest"


def test_a_newcomer_has_no_claim_from_before() -> None:
    line: Line[str] = Line()
    line.add("a", "old", 0, 0.0)
    line.serve("old", 10_000)
    line.add("b", "new", 0, 0.0)
    assert order(line) == ["a", "b"]
    line.serve("new", 1)
    assert order(line) == ["a", "b"]


def test_what_is_left_of_a_request_keeps_its_place() -> None:
    line: Line[str] = Line()
    line.add("a", "", 0, 0.0)
    line.add("b", "", 0, 0.0)
    line.replace("a", "rest of a")
    assert order(line) == ["rest of a", "b"]
    line.remove("rest of a")
    assert list(line) == ["b"]


def test_the_first_may_be_passed_a_few_times_for_a_few_seconds() -> None:
    line: Line[str] = Line()
    line.add("big", "", 0, 0.0)
    (entry,) = line.first(0.0)
    entry.blocked = 1.0
    assert entry.may_be_passed(5.9)
    assert not entry.may_be_passed(6.1)
    entry.passed = 8
    assert not entry.may_be_passed(1.0)


def test_accounts_of_those_who_left_are_closed() -> None:
    line: Line[str] = Line()
    for owner in ("waits", "runs", "left"):
        line.add(owner, owner, 0, 0.0)
    for owner in ("waits", "runs", "left"):
        line.serve(owner, 7)
    line.remove("runs")
    line.remove("left")
    line.forget({"runs"})
    assert [line.served(owner) for owner in ("waits", "runs", "left")] == [7, 7, 0]
