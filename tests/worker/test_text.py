"""Bytes → text: nothing lost, nothing shown too early or too late, for any text cut anywhere."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from worker.text import TextStream

ab = st.text(alphabet="ab€", max_size=30)  # few letters, so that stop strings occur and overlap


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def run(pieces: list[bytes], stop: list[str], *, strip: bool = False) -> tuple[list[str], str]:
    stream = TextStream(stop, strip=strip)
    shown = []
    for piece in pieces:
        shown.append(stream.feed(piece))
        if stream.stop_word:
            break
    shown.append(stream.finish())
    return shown, stream.stop_word


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_any_text_cut_anywhere_comes_out_whole(text: str, places: list[int]) -> None:
    text = text.encode("utf-8", "replace").decode()
    shown, _ = run(cut(text.encode(), places), [])
    assert "".join(shown) == text


@given(st.binary(max_size=40), st.lists(st.integers(0, 1000)))
def test_any_bytes_cut_anywhere_decode_as_in_one_piece(data: bytes, places: list[int]) -> None:
    assert "".join(run(cut(data, places), [])[0]) == data.decode("utf-8", "replace")


@given(ab, st.lists(st.text(alphabet="ab€", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 1000)))
def test_text_ends_before_the_first_stop_string(text: str, stop: list[str], places: list[int]) -> None:
    shown, word = run(cut(text.encode(), places), stop)
    reached = "".join(shown)
    ends = sorted(text.find(item) + len(item) for item in stop if item in text)
    if ends:
        assert word in stop
        assert text.startswith(reached + word)
        assert not any(item in reached for item in stop)
    else:
        assert (reached, word) == (text, "")


@given(ab, st.lists(st.text(alphabet="ab€", min_size=1, max_size=4), min_size=1, max_size=3))
def test_no_more_is_held_back_than_may_become_a_stop_string(text: str, stop: list[str]) -> None:
    stream = TextStream(stop)
    shown = ""
    for end in range(1, len(text) + 1):
        shown += stream.feed(text[end - 1].encode())
        if stream.stop_word:
            return
        held = text[:end].removeprefix(shown)
        assert held == "" or any(item.startswith(held) for item in stop)


def test_incomplete_character_at_the_end_is_replaced() -> None:
    assert run(["€".encode()[:2]], [])[0] == ["", "�"]


def test_only_the_first_space_is_stripped() -> None:
    assert "".join(run([b"", b"  a", b" b"], [], strip=True)[0]) == " a b"


def test_of_two_stop_strings_at_one_place_the_longer_is_named() -> None:
    assert run([b"xaby"], ["a", "ab"]) == (["x", ""], "ab")
