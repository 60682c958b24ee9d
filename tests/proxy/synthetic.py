"""Replies of a worker that never was: the events of a text, reasoning and calls, cut anywhere."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from proxy.dialects.answer import Answer
from worker.protocol import Accepted, CallDelta, CallStart, Delta, Event, Finished, Reasoning, Started, Timings

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
TIMINGS = Timings(3, 4, 10.0, 9, 20.0)
Row = list[tuple[str, Any]]  # ("text", "…"), ("reasoning", "…") or ("call", (id, name, arguments))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """What a model says, kinds in any order, no two texts of one kind in a row."""
    found: Row = []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(("text", "reasoning", "call")), max_size=5))):
        if kind == "call":
            arguments = draw(st.dictionaries(TEXT, st.none() | TEXT | st.integers(-9, 9) | st.lists(TEXT), max_size=3))
            found.append((kind, (f"call_{number}", draw(TEXT), json.dumps(arguments))))
        elif not found or found[-1][0] != kind:
            found.append((kind, draw(TEXT)))
    return found


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces; some are empty."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def events(draw: st.DrawFn, row: Row, reason: str = "eos", *, whole: bool = False) -> list[Event]:
    """The events of a reply; whole: each text in one, as a worker sends them to a client that does not stream."""
    found: list[Event] = [Accepted(1, 7), Started(1, 3)]
    calls = 0
    for kind, value in row:
        text = value[2] if kind == "call" else value
        pieces = [text] if whole else draw(cut(text))
        if kind == "text":
            found += [Delta(1, piece) for piece in pieces]
        elif kind == "reasoning":
            found += [Reasoning(1, piece) for piece in pieces]
        else:
            found += [CallStart(1, calls, value[0], value[1]), *(CallDelta(1, calls, piece) for piece in pieces)]
            calls += 1
    return [*found, Finished(1, reason, "STOP" if reason == "word" else "", TIMINGS)]


def streamed(answer: Answer, found: list[Event], sizes: list[int]) -> str:
    """The records of the events, which come in batches of these sizes."""
    data, at = b"", 0
    for size in [*sizes, len(found)]:
        data += answer.records([(0, event) for event in found[at : at + size]])
        at += size
    assert answer.done
    return data.decode()


def collected(answer: Answer, found: list[Event]) -> dict[str, Any]:
    answer.collect((0, event) for event in found)
    return answer.object()


def named(body: str) -> list[tuple[str, dict[str, Any]]]:
    """The records of a stream whose events have names: name, data."""
    found = []
    for record in body.removesuffix("\n\n").split("\n\n"):
        if record.startswith(":"):
            continue
        name, data = record.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found
