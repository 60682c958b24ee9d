"""Infill: the native route, and OpenAI's completions with a suffix."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.dialects import infill, openai_completions
from proxy.errors import ApiError
from tests.proxy.harness import Harness
from worker.protocol import Chunk, Infill, Text

HOLE = {"input_prefix": "def f(", "input_suffix": "):\n"}


def test_a_hole_with_all_around_it() -> None:
    extra = [{"text": "x = 1", "filename": "x.py"}, {"text": "y", "time": 5}]
    (ask,) = infill.parse({**HOLE, "input_extra": extra, "prompt": "a", "n_predict": 9, "top_k": 3}, "r").asks
    assert ask.prompt == Infill("def f(", "):\n", (Chunk("x = 1", "x.py"), Chunk("y")), "a", 9)
    assert (ask.sampling.top_k, ask.sampling.max_tokens) == (3, 9)
    (ask,) = infill.parse(HOLE, "r").asks
    assert ask.prompt == Infill("def f(", "):\n")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input_prefix": "a"}, "missing_field", "input_suffix"),
        ({"input_suffix": "a"}, "missing_field", "input_prefix"),
        ({**HOLE, "input_prefix": 5}, "invalid_value", "input_prefix"),
        ({**HOLE, "input_extra": {}}, "invalid_value", "input_extra"),
        ({**HOLE, "input_extra": [{"filename": "x"}]}, "missing_field", "input_extra[0].text"),
        ({**HOLE, "input_extra": [{"text": "x", "filename": 5}]}, "invalid_value", "input_extra[0].filename"),
        ({**HOLE, "prompt": ["a"]}, "invalid_value", "prompt"),
        ({**HOLE, "temperature": -1}, "invalid_value", "temperature"),
    ],
)
def test_bad_infill_requests_name_the_field(body: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(ApiError) as error:
        infill.parse(body, "r")
    assert (error.value.code, error.value.object["error"]["param"]) == (code, param)


def test_a_completion_with_a_suffix_fills_a_hole() -> None:
    plan = openai_completions.parse({"prompt": ["a", "b"], "suffix": "c", "max_tokens": 5}, "r")
    assert [ask.prompt for ask in plan.asks] == [Infill("a", "c", room=5), Infill("b", "c", room=5)]
    for nothing in ("", None):
        assert openai_completions.parse({"prompt": "a", "suffix": nothing}, "r").asks[0].prompt == Text(("a",))
    with pytest.raises(ApiError) as error:
        openai_completions.parse({"prompt": [1, 2], "suffix": "c"}, "r")
    assert error.value.code == "invalid_value"


async def test_the_answer_is_that_of_a_completion() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post("/infill", **HOLE)
        ask = await worker.next()
        assert ask.prompt == Infill("def f(", "):\n")
        worker.reply(ask, "a", ", b")
        found = (await task).json()
        assert (found["content"], found["stop"], found["stop_type"]) == ("a, b", True, "eos")
