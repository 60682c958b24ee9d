"""What models write, split into content, reasoning and calls: whole, cut anywhere, broken off and malformed."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.outputs import (
    CASES,
    CODER,
    DEEPSEEK,
    GEMMA,
    GLM,
    HARMONY,
    HERMES,
    J_PARIS,
    KIMI,
    LLAMA,
    MISTRAL,
    THINK,
    TOOLS,
    Case,
    machine,
    run,
    seen,
    whole,
)  # fmt: skip
from worker.chat.arguments import Tools, as_json
from worker.chat.families import CALLS, THOUGHTS, choose
from worker.chat.families.family import Rules
from worker.chat.machine import Kind
from worker.chat.objects import is_object
from worker.chat.parser import Parser
from worker.protocol import Chat, Generate, Text

cases = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


@cases
def test_output_is_split(case: Case) -> None:
    content, reasoning, calls = whole(case)
    assert (content, reasoning) == (case.content, case.reasoning)
    assert tuple((name, json.loads(text)) for name, text in calls) == case.calls


@cases
def test_output_cut_at_every_character_is_split_the_same(case: Case) -> None:
    assert seen(run(machine(case.template, tail=case.tail), *case.output)) == whole(case)
    for at in range(len(case.output)):
        parts = run(machine(case.template, tail=case.tail), case.output[:at], case.output[at:])
        assert seen(parts) == whole(case)


@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 500), max_size=12))
def test_output_in_any_pieces_is_split_the_same(name: str, places: list[int]) -> None:
    case = CASES[name]
    edges = sorted({0, len(case.output), *(place % (len(case.output) + 1) for place in places)})
    pieces = [case.output[start:end] for start, end in itertools.pairwise(edges)]
    assert seen(run(machine(case.template, tail=case.tail), *pieces)) == whole(case)


@cases
def test_output_that_breaks_off_is_a_beginning_of_the_whole(case: Case) -> None:
    """Except for what may be held back, which is text in the end if no call had begun."""
    content, reasoning, calls = whole(case)
    for end in range(len(case.output)):
        shown = machine(case.template, tail=case.tail).feed(case.output[:end])
        part = seen(shown)
        assert content.startswith(part.content)
        assert reasoning.startswith(part.reasoning)
        for (name, text), (all_name, all_text) in zip(part.calls, calls, strict=False):
            assert name == all_name
            assert all_text.startswith(text)
        assert len(part.calls) <= len(calls)


@cases
def test_arguments_of_a_call_that_breaks_off_are_no_valid_json(case: Case) -> None:
    """So that no client executes half of a call; except where only closing marks are missing."""
    full = whole(case).calls
    for end in range(len(case.output)):
        calls = seen(run(machine(case.template, tail=case.tail), case.output[:end], complete=False)).calls
        if calls and calls[-1][1] != full[len(calls) - 1][1]:
            assert not is_object(calls[-1][1])


MARKERS = sorted({text for family in (*CALLS, *THOUGHTS)
                  for text in Rules((*family.thoughts, *family.calls, *family.hidden)).spellings})  # fmt: skip
SNIPPETS = [*MARKERS, "weather", "weather_map", "run", '"name"', '"arguments"', ":", "{", "}", "[", "]", '"', "\\", ",",
            " ", "\n", "a", "é", J_PARIS, '{"name": "run", "arguments": {', "5", "null", ")"]  # fmt: skip


@given(
    st.sampled_from(sorted({case.template for case in CASES.values()})),
    st.lists(st.sampled_from(SNIPPETS), max_size=30), st.booleans(), st.booleans(),
)  # fmt: skip
def test_any_soup_of_markers_is_split_the_same_however_it_is_cut(
    template: str, pieces: list[str], complete: bool, single: bool
) -> None:
    def split(*cut: str) -> object:
        return seen(run(machine(template, parallel_tool_calls=not single), *cut, complete=complete))

    text = "".join(pieces)
    assert split(text) == split(*pieces) == split(*text)


@given(st.sampled_from(sorted({case.template for case in CASES.values()})), st.text(alphabet='ab{<[| "\n', max_size=60))
def test_text_without_markers_comes_out_as_it_is(template: str, text: str) -> None:
    assert seen(run(machine(template), *text)).content == text


@pytest.mark.parametrize(
    ("template", "output"),
    [
        (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "weath", "arguments": {}}</tool_call>'),
        (HERMES, '<tool_call>{"name": "weather", "arguments": 5}</tool_call>'),
        (HERMES, "<tool_call>weather</tool_call>"),
        (HERMES, '<tool_call>{"name": "weather", "arguments": "[]"}</tool_call>'),
        (HERMES, "<tool_call>"),
        (HERMES, '<tool_call>{"name": "weath'),
        (HERMES, '<tool_call>{"name": "weather", "argu'),
        (HERMES, '[TOOL_CALLS][{"name": "weather", "arguments": {}}]'),
        (CODER, "<tool_call>\n<function=unknown>\n</function>"),
        (CODER, "<function=weather>and so on"),
        (GLM, "<tool_call>weather is nice</tool_call>"),
        (LLAMA, "<|python_tag|>print(5)"),
        (LLAMA, "<|python_tag|>weather.call(5"),
        (MISTRAL, "[TOOL_CALLS]"),
        (MISTRAL, "[TOOL_CALLS][]"),
        (MISTRAL, "[TOOL_CALLS]weather[ARGS]text"),
        (DEEPSEEK, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>unknown<｜tool▁sep｜>{}"),
        (KIMI, "<|tool_call_begin|>functions.weather<|tool_call_argument_begin|>{}"),
        (GEMMA, "<|tool_call>call:weather{city:Paris}<tool_call|>"),
        (GEMMA, '<|tool_call>call:weather{city:<|"|>Paris'),
        (HARMONY, "<|channel|>commentary to=functions.unknown<|message|>{}"),
        (HARMONY, "<|start|>user"),
        (THINK, "<thin"),
        (THINK, "<thinking>a"),
    ],
)
def test_what_does_not_fit_is_content(template: str, output: str) -> None:
    for pieces in ((output,), tuple(output)):
        assert seen(run(machine(template), *pieces)) == (output, "", ())


def test_without_tools_a_call_is_text() -> None:
    case = CASES["llama"]
    ask = Generate(1, "r", Chat([], tools=TOOLS), reasoning_format="auto")
    assert Parser(case.template, lambda _: {}).machine(ask, str) is None
    found = seen(run(machine(HERMES, tools=False), CASES["hermes"].output))
    assert found.reasoning == "Hm."
    assert found.content.count("<tool_call>") == 2
    assert not found.calls


@pytest.mark.parametrize(
    ("format", "stream", "split"),
    [("auto", True, True), ("deepseek", False, True), ("none", False, False), ("deepseek-legacy", True, False),
     ("deepseek-legacy", False, True)],
)  # fmt: skip
def test_reasoning_formats(format: str, stream: bool, split: bool) -> None:
    output = "<think>a</think>b"
    found = seen(run(machine(HERMES, reasoning_format=format, stream=stream), output))
    assert found == (("b", "a", ()) if split else (output, "", ()))


@pytest.mark.parametrize("name", ["hermes", "coder", "glm", "mistral", "mistral new", "deepseek r1", "kimi", "command"])
def test_one_call_only_where_no_more_are_wanted(name: str) -> None:
    case = CASES[name]
    reader = machine(case.template, tail=case.tail, parallel_tool_calls=False)
    parts = [part for char in case.output for part in reader.feed(char)]
    assert reader.done
    assert reader.feed("more") == reader.finish(complete=True) == []
    assert [(call, json.loads(text)) for call, text in seen(parts).calls] == [case.calls[0]]


def test_a_models_own_ids_are_kept() -> None:
    def ids(name: str) -> list[str]:
        return [part.id for part in run(machine(CASES[name].template), CASES[name].output) if part.kind is Kind.CALL]

    assert ids("kimi") == ["functions.weather:0", "functions.run:1"]
    assert ids("mistral ids") == ["a1b2c3d4e"]
    assert ids("command") == ["0", "1"]
    assert len(ids("mistral")[0]) == 9
    assert all(id.startswith("call_") for id in ids("hermes"))
    assert len(set(ids("hermes"))) == 2


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("5", {"integer"}, 5),
        ("5", {"string", "null"}, "5"),
        ("null", {"string", "null"}, None),
        ("None", {"string", "null"}, None),
        ("None", {"string"}, "None"),
        (" True ", {"boolean"}, True),
        ("True", {"string", "integer"}, "True"),
        ("5.5", {"string", "number"}, 5.5),
        ("5", {"string", "number"}, 5),
        ('{"a": [1]}', {"string", "object"}, {"a": [1]}),
        ("[1]", {"string", "object"}, "[1]"),
        ("[1]", {"array"}, [1]),
        ("[1]", set(), [1]),
        ("[1", set(), "[1"),
        ("NaN", {"number"}, "NaN"),
        ("", {"integer"}, ""),
    ],
)
def test_a_tagged_value_is_what_the_schema_says_or_a_string(text: str, types: set[str], value: object) -> None:
    found = json.loads(as_json(text, frozenset(types)))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"string", "integer"}),
        ({"anyOf": [{"type": "string"}, {"$ref": "x"}]}, set()),
        ({"enum": ["a", "b"]}, {"string"}),
        ({"enum": ["a", 1]}, set()),
        ({}, set()),
        (5, set()),
    ],
)
def test_types_of_a_parameter(schema: object, types: set[str]) -> None:
    tools = Tools([{"function": {"name": "f", "parameters": {"properties": {"p": schema}}}}])
    assert tools.types("f", "p") == types
    assert tools.types("f", "q") == tools.types("g", "p") == set()


def test_arguments_stream_while_they_come() -> None:
    for name in ("hermes", "coder", "glm", "kimi", "harmony call"):
        case = CASES[name]
        reader = machine(case.template, tail=case.tail)
        fragments = [part for char in case.output for part in reader.feed(char) if part.kind is Kind.ARGUMENTS]
        assert len(fragments) > 8, name


def test_no_more_than_a_marker_is_held_back() -> None:
    reader = machine(THINK)
    shown = "".join(part.text for part in reader.feed("Some words <thin"))
    assert shown == "Some words <thin"  # inside a message this tag means nothing
    reader = machine(HERMES)
    assert "".join(part.text for part in reader.feed("Some words <tool_")) == "Some words "
    assert "".join(part.text for part in reader.feed("x")) == "<tool_x"


def test_what_is_only_text_has_no_machine() -> None:
    ask = Generate(1, "r", Chat([], tools=TOOLS), parse_tools=True, reasoning_format="auto")
    assert choose("{{ messages }}") is None
    assert Parser("{{ messages }}", lambda _: {}).machine(ask, str) is None
    assert Parser(HERMES, lambda _: {}).machine(Generate(1, "r", Text(("x",)), reasoning_format="auto"), str) is None
    assert Parser(HERMES, lambda _: {}).machine(Generate(1, "r", Chat([]), parse_tools=True), str) is None


@pytest.mark.parametrize("depth", [100_000])
def test_deep_nesting_and_huge_numbers_do_no_harm(depth: int) -> None:
    for value in ("[" * depth, "9" * depth, '"\\ud800"'):
        text = f"<function=weather><parameter=spots>{value}</parameter></function>"
        ((name, arguments),) = seen(run(machine(CODER), text)).calls
        assert name == "weather"
        assert json.loads(arguments)["spots"] is not None
    run(machine(HERMES), '<tool_call>{"name": "run", "arguments": "' + "{" * depth + '"}')
