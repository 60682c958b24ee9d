"""What binds a reply: calls that are demanded, grammars that wait for a marker, reasoning that must end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.worker import outputs
from tests.worker.outputs import CASES, CODER, DSML, GEMMA, GLM, HARMONY, HERMES, LLAMA, TOOLS, Case, seen
from tests.worker.test_engine import Bench
from worker.chat.machine import Part
from worker.chat.parser import Parser
from worker.failure import RequestError
from worker.guides import Guides
from worker.protocol import Chat, Generate, Text
from worker.text import TextStream
from worker.vocabulary import Vocabulary

SCHEMA = json.dumps({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
ALL = tuple(tool["function"]["name"] for tool in TOOLS)


@pytest.fixture(scope="module")
def vocabulary(smollm: Bench) -> Vocabulary:
    return smollm.model._context.model.vocabulary


class Driven:
    """A guide and its machine, with a test in the model's place."""

    def __init__(self, vocabulary: Vocabulary, template: str, *, tail: str = "", **keys: Any) -> None:
        self.vocabulary = vocabulary
        parser = Parser(template, vocabulary.hidden)
        guides = Guides(vocabulary, parser)
        ask = Generate(1, "r", Chat([], tools=TOOLS), **{"reasoning_format": "auto", "parse_tools": True} | keys)
        self.machine = parser.machine(ask, lambda: tail)
        plan = guides.plan(ask)
        assert plan is not None
        self.guide = guides.guide(plan, ask, self.machine, lambda: tail)
        self.parts: list[Part] = []
        self.rest = ""
        self._text = TextStream()

    def write(self, text: str) -> str:
        """What of the text the guide does not let through."""
        tokens = self.vocabulary.tokenize(text, special=True)
        for at, token in enumerate(tokens):
            forced = self.guide.forced()
            assert forced in (None, token)
            if forced is None and self.guide.binds:
                if not self.guide.allows(token):
                    return self.vocabulary.detokenize(tokens[at:])
                self.guide.accept(token)
            self._take(token)
        return ""

    def forced(self) -> str:
        """The text that the guide writes itself."""
        tokens = []
        while (token := self.guide.forced()) is not None:
            tokens.append(token)
            self._take(token)
        return self.vocabulary.detokenize(tokens)

    @property
    def may_end(self) -> bool:
        return not self.guide.binds or self.guide.allows(self.vocabulary.eos)

    def _take(self, token: int) -> None:
        data = self.vocabulary.pieces[token]
        if self.machine is not None:
            self.parts += self.machine.feed(self._text.feed(data or self.machine.shown.get(token, b"")))
        self.guide.took(token, data, whole=True)


# -- calls that are demanded ----------------------------------------------------------------------------------------

# What the machine forgives and no grammar writes: arguments in another order, of other types or not at all, a closing
# tag within a value, members of no use, a call that is cut off, Python's syntax.
FORGIVEN = {
    "hermes other order", "hermes no arguments", "coder ends early", "coder types", "coder tags in a value",
    "llama python", "llama tag", "mistral", "granite", "gemma nested",
}  # fmt: skip
CALLS = {name: case for name, case in CASES.items() if case.calls and not case.content}


def written(vocabulary: Vocabulary, case: Case) -> Driven:
    driven = Driven(vocabulary, case.template, tail=case.tail, must_call=ALL, parallel_tool_calls=True)
    driven.rest = driven.write(case.output)
    return driven


@pytest.mark.parametrize("name", sorted(set(CALLS) - FORGIVEN))
def test_what_models_write_fits_their_familys_own_grammar(vocabulary: Vocabulary, name: str) -> None:
    case = CALLS[name]
    driven = written(vocabulary, case)
    assert driven.rest == ""
    assert driven.may_end
    assert driven.machine is not None
    found = seen([*driven.parts, *driven.machine.finish(complete=True)])
    assert found == outputs.whole(case)


@pytest.mark.parametrize("name", sorted(FORGIVEN))
def test_what_is_read_but_not_meant_to_be_written_is_refused(vocabulary: Vocabulary, name: str) -> None:
    driven = written(vocabulary, CALLS[name])
    assert driven.rest or not driven.may_end


def called(driven: Driven) -> list[tuple[str, str]]:
    assert driven.machine is not None
    return list(seen([*driven.parts, *driven.machine.finish(complete=True)]).calls)


RUN = '<tool_call>{"name": "run", "arguments": {"code": "x"}}</tool_call>'


def test_only_the_tools_that_are_named_can_be_called(vocabulary: Vocabulary) -> None:
    assert Driven(vocabulary, HERMES, must_call=("run",)).write(RUN) == ""
    assert Driven(vocabulary, HERMES, must_call=("weather",)).write(RUN).startswith("run")


def test_a_second_call_comes_only_where_several_may(vocabulary: Vocabulary) -> None:
    assert Driven(vocabulary, HERMES, must_call=ALL, parallel_tool_calls=True).write(RUN + RUN) == ""
    single = Driven(vocabulary, HERMES, must_call=ALL, parallel_tool_calls=False)
    assert single.write(RUN + RUN) != ""
    assert single.machine is not None
    assert single.machine.done


@pytest.mark.parametrize("text", ["Sure.", "<tool_call>[", '<tool_call>{"name": "other"', RUN[:40] + "5"])
def test_a_demanded_call_leaves_no_way_around_it(vocabulary: Vocabulary, text: str) -> None:
    driven = Driven(vocabulary, HERMES, must_call=ALL)
    assert driven.write(text) != ""
    assert not driven.may_end


def test_arguments_fit_the_tools_schema_in_every_syntax(vocabulary: Vocabulary) -> None:
    wrong = {
        HERMES: '<tool_call>{"name": "weather", "arguments": {"days": "two"',
        CODER: "<function=weather><parameter=days>two<",
        LLAMA: '{"name": "weather", "parameters": {"days": true',
        GEMMA: "<|tool_call>call:weather{days:true",
        GLM: "<tool_call>weather<arg_key>metric</arg_key><arg_value>5",
        DSML: '<｜DSML｜invoke name="weather"><｜DSML｜parameter name="days" string="true">',
    }
    for template, text in wrong.items():
        assert Driven(vocabulary, template, must_call=ALL).write(text) != "", template


def test_a_model_without_a_form_for_calls_cannot_be_made_to_call(vocabulary: Vocabulary) -> None:
    with pytest.raises(RequestError) as caught:
        Driven(vocabulary, "{{ messages }}", must_call=ALL)
    assert (caught.value.code, caught.value.fields) == ("unsupported_feature", {"feature": "tool_choice"})


def test_a_tool_whose_schema_cannot_be_compiled_is_an_error_only_if_it_is_demanded(vocabulary: Vocabulary) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "thing"}}}]
    guides = Guides(vocabulary, Parser(HERMES, vocabulary.hidden))
    assert guides.plan(Generate(1, "r", Chat([], tools), parse_tools=True)) is None
    with pytest.raises(RequestError, match="tools: Invalid type: thing") as caught:
        guides.plan(Generate(1, "r", Chat([], tools), parse_tools=True, must_call=("f",)))
    assert caught.value.code == "invalid_grammar"


# -- grammars that wait ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["auto", "none"])
def test_a_schema_begins_where_the_reasoning_ends(vocabulary: Vocabulary, form: str) -> None:
    opened = Driven(vocabulary, HERMES, tail="<think>", json_schema=SCHEMA, reasoning_format=form)
    assert opened.write("Well, [1, {</think>\n\n") == ""
    assert opened.write("Well") == "Well"
    assert opened.write('{"a": true}') == ""
    assert opened.may_end


@pytest.mark.parametrize("output", ['<think>Hm { </think>{"a":true}', '{"a":true}'])
def test_a_model_may_reason_before_it_obeys_or_obey_at_once(vocabulary: Vocabulary, output: str) -> None:
    driven = Driven(vocabulary, HERMES, json_schema=SCHEMA)
    assert driven.write(output) == ""
    assert driven.may_end
    assert Driven(vocabulary, HERMES, json_schema=SCHEMA).write("Hm") == "Hm"


def test_a_model_that_is_told_not_to_think_cannot_open_its_reasoning(vocabulary: Vocabulary) -> None:
    parser = Parser(HERMES, vocabulary.hidden)
    chat = Chat([], template_kwargs={"enable_thinking": False})
    plan = Guides(vocabulary, parser).plan(Generate(1, "r", chat, json_schema=SCHEMA, reasoning_format="auto"))
    assert plan is not None
    assert plan.opening == ()


def test_reasoning_and_a_call_may_begin_alike(vocabulary: Vocabulary) -> None:
    """`<` is the first token of both markers in this vocabulary, and each message of gpt-oss names its channel."""
    for output in ("<think>Hm</think>" + RUN, RUN):
        assert Driven(vocabulary, HERMES, must_call=ALL).write(output) == ""
    thought = "<|channel|>analysis<|message|>Hm<|end|>"
    answer = '<|channel|>final<|message|>{"a": true}'
    for output in (thought + "<|start|>assistant" + answer, answer):
        driven = Driven(vocabulary, HARMONY, json_schema=SCHEMA)
        assert driven.write(output) == ""
        assert driven.may_end


def test_a_plain_prompt_has_none_of_a_chats_markers(vocabulary: Vocabulary) -> None:
    guides = Guides(vocabulary, Parser(HARMONY, vocabulary.hidden))
    ask = Generate(1, "r", Text(("x",)), json_schema=SCHEMA)
    plan = guides.plan(ask)
    assert plan is not None
    guide = guides.guide(plan, ask, None, str)
    assert guide.allows(vocabulary.tokenize("{", special=False)[0])
    assert not guide.allows(vocabulary.tokenize("<", special=False)[0])


def test_once_begun_the_marker_of_the_reasoning_is_written_to_its_end(vocabulary: Vocabulary) -> None:
    driven = Driven(vocabulary, HERMES, json_schema=SCHEMA)
    assert driven.write("<") == ""
    assert driven.forced() == "think>"
    assert driven.machine is not None
    assert driven.machine.reasoning


def test_text_is_free_until_a_calls_marker_is_complete(vocabulary: Vocabulary) -> None:
    driven = Driven(vocabulary, HERMES)
    assert driven.write("Some <tool_cal or {other} text, then <tool_call") == ""
    assert not driven.guide.binds
    assert driven.write(">") == ""
    assert driven.guide.binds
    assert driven.write("x") == "x"
    assert driven.write('\n{"name": "we') == ""
    assert driven.write("b") == "b"
    assert driven.write('ather", "arguments": {"city": "Bern"}}') == ""
    assert not driven.guide.binds
    assert driven.write("\n</tool_call>\nDone: " + RUN) == ""
    assert called(driven) == [("weather", '{"city": "Bern"}'), ("run", '{"code": "x"}')]


@pytest.mark.parametrize("name", sorted(set(CALLS) - FORGIVEN))
def test_what_models_write_is_let_through_when_they_may_call(vocabulary: Vocabulary, name: str) -> None:
    case = CALLS[name]
    driven = Driven(vocabulary, case.template, tail=case.tail)
    assert driven.write(case.output) == ""
    assert driven.may_end
    assert driven.machine is not None
    assert seen([*driven.parts, *driven.machine.finish(complete=True)]) == outputs.whole(case)


def test_a_marker_whose_token_goes_on_with_something_else_binds_nothing(vocabulary: Vocabulary) -> None:
    driven = Driven(vocabulary, HERMES)
    tokens = vocabulary.tokenize("<tool_call>=", special=False)
    assert vocabulary.pieces[tokens[-1]] == b">="
    assert driven.write("<tool_call>= text") == ""
    assert not driven.guide.binds


@pytest.mark.parametrize(("trigger", "marker"), [("<f>", "<f>"), (1, "<|im_start|>")])
def test_a_grammar_that_waits_for_a_word_or_a_token_reads_it_and_binds(
    vocabulary: Vocabulary, trigger: str | int, marker: str
) -> None:
    guides = Guides(vocabulary, Parser("{{ messages }}", vocabulary.hidden))
    rules = f'root ::= "{marker}" [0-9]+ "."'
    ask = Generate(1, "r", Text(("x",)), grammar=rules, grammar_triggers=(trigger,))
    plan = guides.plan(ask)
    assert plan is not None
    guide = guides.guide(plan, ask, None, str)
    for token in vocabulary.tokenize(f"free text {marker}", special=True):
        assert not guide.binds
        guide.took(token, vocabulary.pieces[token], whole=True)
    assert guide.binds
    assert not guide.allows(vocabulary.tokenize("x", special=False)[0])
    assert guide.allows(vocabulary.tokenize("7", special=False)[0])
    guide.close()


def test_a_trigger_that_is_no_token_of_the_model_is_refused(vocabulary: Vocabulary) -> None:
    guides = Guides(vocabulary, Parser("", vocabulary.hidden))
    with pytest.raises(RequestError, match="grammar_triggers: token 49152"):
        guides.plan(Generate(1, "r", Text(("x",)), grammar='root ::= "a"', grammar_triggers=(49152,)))


# -- the end of reasoning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["auto", "none"])
def test_reasoning_ends_when_its_budget_is_spent(vocabulary: Vocabulary, form: str) -> None:
    keys = {"reasoning_budget": 3, "reasoning_message": "\nEnough.\n", "reasoning_format": form}
    driven = Driven(vocabulary, HERMES, tail="<think>", **keys)
    assert driven.write("one two") == ""
    assert driven.forced() == ""
    assert driven.write(" three") == ""
    assert driven.forced() == "\nEnough.\n</think>"
    assert driven.write("An answer. <think>") == ""
    assert driven.forced() == ""


def test_a_budget_of_nothing_ends_the_reasoning_at_once(vocabulary: Vocabulary) -> None:
    assert Driven(vocabulary, HERMES, tail="<think>", reasoning_budget=0).forced() == "</think>"
    driven = Driven(vocabulary, HERMES, reasoning_budget=0)
    assert driven.forced() == ""
    assert driven.write("<think>") == ""
    assert driven.forced() == "</think>"


def test_a_budget_and_a_schema_work_together(vocabulary: Vocabulary) -> None:
    driven = Driven(vocabulary, HERMES, tail="<think>", reasoning_budget=1, json_schema=SCHEMA)
    assert driven.write("one") == ""
    assert driven.forced() == "</think>"
    assert driven.write("one") == "one"
    assert driven.write('{"a":false}') == ""


def test_a_client_may_end_the_reasoning_where_a_character_is_whole(vocabulary: Vocabulary) -> None:
    driven = Driven(vocabulary, HERMES, tail="<think>", reasoning_control=True, reasoning_message="Enough.")
    driven.guide.end_reasoning()
    assert driven.forced() == ""
    token = vocabulary.tokenize("Hm", special=False)[0]
    driven.guide.took(token, b"Hm", whole=False)
    assert driven.guide.forced() is None
    driven.guide.took(token, b"Hm", whole=True)
    assert driven.forced() == "</think>"


def test_without_reasoning_its_end_is_no_event(vocabulary: Vocabulary) -> None:
    driven = Driven(vocabulary, HERMES, reasoning_control=True)
    driven.guide.end_reasoning()
    assert driven.write("Hello") == ""
    assert driven.forced() == ""
    assert Driven(vocabulary, LLAMA, reasoning_budget=0).forced() == ""
