"""What the dialects with blocks have in common: the row of blocks, and JSON that was cut off."""

from __future__ import annotations

import json
from typing import Any

import jiter
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import partial_json
from proxy.dialects.blocks import Blocks, Closed, Grown, Kind, Opened
from tests.proxy.synthetic import TEXT, Row, events, rows
from worker.protocol import Delta, Reasoning

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(rows().flatmap(lambda row: st.tuples(st.just(row), events(row))), st.integers(1, 9))
def test_blocks_are_what_the_model_said_and_open_and_close_in_turn(case: tuple[Row, Any], size: int) -> None:
    row, found = case
    blocks = Blocks()
    steps = [step for at in range(0, len(found), size) for step in blocks.take(found[at : at + size])]
    steps += blocks.finish()
    said = [(block.kind.value, (block.id, block.name, block.text)) for block in blocks.all]
    assert said == [(kind, value if kind == "call" else ("", "", value)) for kind, value in row]
    expected = [kind for block in blocks.all for kind in ((Opened, block.index), (Closed, block.index))]
    assert [(type(step), step.block.index) for step in steps if not isinstance(step, Grown)] == expected
    for block in blocks.all:
        assert "".join(step.text for step in steps if isinstance(step, Grown) and step.block is block) == block.text


def test_texts_of_one_batch_are_one_step() -> None:
    steps = Blocks().take([Reasoning(1, "a"), Reasoning(1, "b"), Delta(1, "c"), Delta(1, ""), Delta(1, "d")])
    assert [type(step) for step in steps] == [Opened, Grown, Closed, Opened, Grown]
    assert [(step.block.kind, step.text) for step in steps if isinstance(step, Grown)] == [
        (Kind.REASONING, "ab"),
        (Kind.TEXT, "cd"),
    ]


@given(st.dictionaries(TEXT, JSON, max_size=3), st.data())
def test_what_is_whole_of_json_that_was_cut_off_is_what_a_client_makes_of_it(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    text = text[: data.draw(st.integers(1, len(text)))]
    assert partial_json.parse(text) == jiter.from_json(text.encode(), partial_mode=True)


def test_what_is_no_object_is_an_empty_one() -> None:
    assert [partial_json.parse(text) for text in ("", "[1, 2", '"a"', "nonsense", "}")] == [{}] * 5
