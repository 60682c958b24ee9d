"""What ends a reply by its lines, alone: bytes in, text out, and a clock that the test moves."""

from __future__ import annotations

import pytest

from worker.limits import LineText


def shown(text: LineText, *pieces: str) -> list[str]:
    """What each piece shows, up to the one that ends the text."""
    found = []
    for piece in pieces:
        found.append(text.feed(piece.encode()))
        if text.ended or text.stop_word:
            break
    return found


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("none\n  two\n\tone\n", "none\n  two\n\t"),
        ("a\n  b\n  c", "a\n  b\n  c"),
        ("a\n    deep\nx", "a\n    deep\n"),
        ("a\n\n  b", "a\n"),
    ],
)
def test_the_first_line_that_is_indented_less_ends_the_text(text: str, seen: str) -> None:
    whole, single = LineText(indent=2), LineText(indent=2)
    assert "".join(shown(whole, text)) + whole.finish() == seen
    assert "".join(shown(single, *text)) + single.finish() == seen
    assert whole.ended is single.ended is (seen != text)


def test_a_time_that_is_over_ends_the_text_with_its_line() -> None:
    now = 100.0
    text = LineText(seconds=5.0, clock=lambda: now)
    assert shown(text, "one\ntwo") == ["one\ntwo"]
    now = 106.0
    assert shown(text, " goes on", " and on", "\nthree", "never") == [" goes on", " and on", "\n"]
    assert text.ended
    assert text.finish() == ""


def test_the_time_counts_from_the_first_token() -> None:
    now = 100.0
    text = LineText(seconds=5.0, clock=lambda: now)
    now = 200.0
    assert shown(text, "a\n", "b\n") == ["a\n", "b\n"]
    assert not text.ended


def test_what_comes_first_ends_the_text() -> None:
    text = LineText(["END"], indent=2)
    assert shown(text, "a\nbEND") == ["a\n"]
    assert (text.ended, text.stop_word) == (True, "")
    text = LineText(["END"], indent=2)
    assert shown(text, "a\n  bEND") == ["a\n  b"]
    assert (text.ended, text.stop_word) == (False, "END")


def test_without_limits_it_only_sees_whether_there_is_a_line_break() -> None:
    text = LineText(["x"])
    assert shown(text, "a", "b") == ["a", "b"]
    assert not text.new_line
    assert shown(text, "\nc") == ["\nc"]
    assert text.new_line
