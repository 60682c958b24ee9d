"""The dialects alone: what a body means, what it may not say, and what is refused rather than ignored."""

from __future__ import annotations

import math
from typing import Any

import pytest

from proxy.dialects import llama, openai_chat, openai_completions
from proxy.errors import STATUS, ApiError
from supervisor.config import Sampling
from supervisor.samplers import ORDER
from worker.protocol import Chat, Text

LAZY = {"grammar": "g", "grammar_lazy": True}
USER = {"role": "user", "content": "hi"}
SAMPLING = {
    "temperature": 0.5, "top_k": -1, "top_p": 0.9, "min_p": 0.1, "seed": 2**32 - 1, "repeat_penalty": 1.1,
    "presence_penalty": -1.5, "frequency_penalty": 2, "repeat_last_n": 0, "max_tokens": 5, "ignore_eos": True,
    "dynatemp_range": 0.5, "dynatemp_exponent": 2, "typical_p": 0.9, "top_n_sigma": 1.5, "xtc_probability": 0.5,
    "xtc_threshold": 0.2, "min_keep": 2, "dry_multiplier": 0.8, "dry_base": 2, "dry_allowed_length": 3,
    "dry_penalty_last_n": -1, "dry_sequence_breakers": ("\n",), "mirostat": 2, "mirostat_tau": 4, "mirostat_eta": 0.2,
    "adaptive_target": 0.5, "adaptive_decay": 0.8, "samplers": ("top_k", "temperature"), "logit_bias": ((5, -1.0),),
}  # fmt: skip


def chat(**body: Any) -> Any:
    return openai_chat.parse({"messages": [USER]} | body, "r").asks[0]


def refusal(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        openai_chat.parse({"messages": [USER]} | body, "r")
    return caught.value


def test_every_sampling_parameter_reaches_the_worker() -> None:
    assert chat(**SAMPLING).sampling == Sampling(**SAMPLING)
    assert set(SAMPLING) == set(Sampling.__struct_fields__)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ([[5, 1], ["no", False], [7.0, -0.5]], ((5, 1.0), ("no", -math.inf), (7, -0.5))),
        ({"5": -100, " no": False, "-1": 1}, ((5, -100.0), (" no", -math.inf), ("-1", 1.0))),
        ([], ()),
        ({}, ()),
    ],
)
def test_logit_bias_in_every_spelling(said: Any, meant: tuple[Any, ...]) -> None:
    assert chat(logit_bias=said).sampling.logit_bias == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["top-k", "TopP", "temp", "nonsense", "typ"], ("top_k", "top_p", "temperature", "typ_p")),
        ("edskypmxt", ORDER),
        ("kz?ia", ("top_k", "infill", "adaptive_p")),
        ("top_k;temperature", ("top_k", "temperature")),
        ("min-p", ("min_p",)),
        ([], ()),
    ],
)
def test_samplers_in_every_spelling(said: Any, meant: tuple[str, ...]) -> None:
    assert chat(samplers=said).sampling.samplers == meant


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({}, -1),
        ({"logprobs": True}, 20),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 3, "n_probs": 9}, 3),
        ({"n_probs": 30}, 30),
    ],
)
def test_how_many_probabilities_a_chat_asks_for(body: dict[str, Any], count: int) -> None:
    assert chat(**body).n_probs == count


@pytest.mark.parametrize(
    ("body", "count"), [({}, -1), ({"logprobs": 0}, 0), ({"logprobs": 5}, 5), ({"logprobs": False, "n_probs": 2}, 2)]
)
def test_how_many_probabilities_a_completion_asks_for(body: dict[str, Any], count: int) -> None:
    assert openai_completions.parse({"prompt": "x"} | body, "r").asks[0].n_probs == count


OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("body", "grammar", "schema"),
    [
        ({"grammar": 'root ::= "x"'}, 'root ::= "x"', ""),
        ({"json_schema": {}}, "", "{}"),
        ({"json_schema": OBJECT, "grammar": ""}, "", '{"type":"object"}'),
        ({"response_format": {"type": "text"}}, "", ""),
        ({"response_format": {"type": "json_object"}}, "", "{}"),
        ({"response_format": {"type": "json_object", "schema": OBJECT}}, "", '{"type":"object"}'),
        ({"response_format": {"type": "json_schema", "schema": OBJECT}}, "", '{"type":"object"}'),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": OBJECT}}}, "", '{"type":"object"}'),
    ],
)
def test_grammars_and_schemas_reach_the_worker(body: dict[str, Any], grammar: str, schema: str) -> None:
    assert (chat(**body).grammar, chat(**body).json_schema) == (grammar, schema)


@pytest.mark.parametrize(
    "body",
    [
        {"grammar": "x", "json_schema": {}},
        {"json_schema": {}, "response_format": {"type": "json_object"}},
        {"grammar": "x", "tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
def test_one_constraint_at_a_time(body: dict[str, Any]) -> None:
    assert refusal(**body).code == "conflicting_fields"


def test_probabilities_of_an_echoed_prompt_are_not_built() -> None:
    with pytest.raises(ApiError) as caught:
        openai_completions.parse({"prompt": "x", "echo": True, "logprobs": 1}, "r")
    assert (caught.value.status, caught.value.param) == (501, "echo")


def test_the_other_name_of_typical_p() -> None:
    assert chat(typ_p=0.5).sampling.typical_p == 0.5
    assert chat(typ_p=0.5, typical_p=0.6).sampling.typical_p == 0.6


def test_null_and_unknown_fields_count_as_absent() -> None:
    assert chat(**dict.fromkeys(SAMPLING), stream=None, stop=None, what={"ever": [1]}) == chat()


@pytest.mark.parametrize(
    ("names", "limit"),
    [
        ({"max_tokens": 1}, 1),
        ({"max_tokens": 1, "max_completion_tokens": 2}, 2),
        ({"max_tokens": 1, "max_completion_tokens": 2, "n_predict": 3}, 3),
        ({"n_predict": 0, "max_tokens": 1}, 0),
        ({"max_tokens": -1}, -1),
        ({"max_tokens": 5.0}, 5),
    ],
)
def test_the_first_name_for_the_limit_counts(names: dict[str, Any], limit: int) -> None:
    assert chat(**names).sampling.max_tokens == limit


@pytest.mark.parametrize(
    ("stop", "words"), [("x", ("x",)), (["a", "", "b"], ("a", "b")), ("", ()), ([], ()), (["s"] * 64, ("s",) * 64)]
)
def test_stop_strings(stop: Any, words: tuple[str, ...]) -> None:
    assert chat(stop=stop).stop == words


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": -1}, "temperature", "0"),
        ({"top_p": 1.5}, "top_p", "from 0 to 1"),
        ({"logprobs": 5}, "logprobs", "true or false"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"top_logprobs": 3}, "top_logprobs", "needs logprobs"),
        ({"n_probs": 1001}, "n_probs", "from 0 to 1000"),
        ({"mirostat": 3}, "mirostat", "from 0 to 2"),
        ({"dry_base": 0.5}, "dry_base", "from 1"),
        ({"dry_sequence_breakers": []}, "dry_sequence_breakers", "1 to 64 strings"),
        ({"dry_sequence_breakers": ["\0"]}, "dry_sequence_breakers", "1 to 64 strings"),
        ({"adaptive_decay": 1}, "adaptive_decay", "from 0 to 0.99"),
        ({"xtc_probability": 1.1}, "xtc_probability", "from 0 to 1"),
        ({"min_keep": -1}, "min_keep", "0"),
        ({"samplers": 5}, "samplers", "names of samplers"),
        ({"samplers": ["top_k", 5]}, "samplers", "names of samplers"),
        ({"logit_bias": [[5]]}, "logit_bias", "pairs"),
        ({"logit_bias": [[5, 1]] * 65537}, "logit_bias", "at most 65536"),
        ({"logit_bias": [[-1, 1]]}, "logit_bias", "token id ≥ 0"),
        ({"logit_bias": {"5": True}}, "logit_bias", "a number or false"),
        ({"logit_bias": {"5": "x"}}, "logit_bias", "a number or false"),
        ({"max_tokens": "5"}, "max_tokens", "integer"),
        ({"max_tokens": 5.5}, "max_tokens", "integer"),
        ({"max_tokens": -2}, "max_tokens", "-1"),
        ({"seed": 2**64}, "seed", "integer"),
        ({"stream": 1}, "stream", "true or false"),
        ({"stop": [1]}, "stop[0]", "string"),
        ({"stop": ["s"] * 65}, "stop", "64"),
        ({"stream_options": True}, "stream_options", "object"),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": None}, "messages", "required"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [1]}, "messages[0]", "object"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "required"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1]", "content or tool_calls"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "string"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "string"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type", "text"),
        ({"tools": {}}, "tools", "list"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "string"),
        ({"tool_choice": "sometimes"}, "tool_choice", "auto"),
        ({"tool_choice": {"function": {"name": "g"}}}, "tool_choice.function.name", "one of the tools"),
        ({"tool_choice": {"function": []}}, "tool_choice.function.name", "one of the tools"),
        ({"tool_choice": "required"}, "tool_choice", "needs a function"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, "tool_choice", "needs a function"),
        ({"reasoning_budget_tokens": -2}, "reasoning_budget_tokens", "-1"),
        ({"thinking_budget_tokens": "5"}, "thinking_budget_tokens", "integer"),
        ({"grammar_lazy": True}, "grammar_lazy", "needs a grammar"),
        ({"grammar": "g", "grammar_lazy": True}, "grammar_triggers", "needs"),
        (LAZY | {"grammar_triggers": [{"type": 9}]}, "grammar_triggers[0].type", "word"),
        (LAZY | {"grammar_triggers": [{"type": 1}]}, "grammar_triggers[0].value", "text"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_object"),
        ({"n": 0}, "n", "from 1 to 200"),
        ({"n_cmpl": "2"}, "n_cmpl", "integer"),
        ({"reasoning_format": "xml"}, "reasoning_format", "deepseek"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls", "true or false"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs.enable_thinking", "true or false"),
        ({"continue_final_message": True}, "continue_final_message", "not the assistant's"),
    ],
)
def test_an_error_names_the_place_and_what_is_legal(body: dict[str, Any], param: str, words: str) -> None:
    error = refusal(**body)
    assert error.status == 400
    assert error.param == param
    assert words in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"grammar": "g", "grammar_lazy": True, "grammar_triggers": [{"type": 2, "value": "a.*"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
    ],
)
def test_what_is_not_built_is_refused_and_never_ignored(body: dict[str, Any]) -> None:
    error = refusal(**body)
    assert (error.status, error.code) == (501, "unsupported_feature")
    assert error.fields["feature"]


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1, "best_of": 2, "logprobs": False, "top_logprobs": 0, "n_probs": 0, "grammar": ""},
        {"response_format": {"type": "text"}},
        {"tools": [{"type": "web_search"}], "tool_choice": "auto"},
        {"reasoning_format": "auto", "user": "u", "metadata": {}, "store": True, "service_tier": "auto"},
    ],
)
def test_what_has_no_effect_is_accepted(body: dict[str, Any]) -> None:
    assert chat(**body) == chat()


def test_messages_reach_the_template_as_it_expects_them() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found = chat(
        messages=[
            {"role": "developer", "content": "be brief", "extra": 1},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": None, "tool_call_id": "c"},
        ],
        reasoning_effort="low",
        chat_template_kwargs={"enable_thinking": False},
    ).prompt
    assert found == Chat(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [call | {"type": "function"}]},
            {"role": "tool", "content": None, "tool_call_id": "c"},
        ],
        template_kwargs={"reasoning_effort": "low", "enable_thinking": False},
    )


TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        ({}, True),
        ({"tool_choice": "auto"}, True),
        ({"tool_choice": "none"}, False),
        ({"parse_tool_calls": False}, False),
    ],
)
def test_tools_are_shown_to_the_model_and_their_calls_parsed_if_wanted(body: dict[str, Any], parsed: bool) -> None:
    ask = chat(tools=TOOLS, **body)
    assert (ask.prompt.tools, ask.parse_tools) == (TOOLS, parsed)


@pytest.mark.parametrize(
    ("choice", "names", "parallel"),
    [
        (None, (), None),
        ("auto", (), None),
        ("required", ("f", "g"), None),
        ({"type": "function", "function": {"name": "g"}}, ("g",), False),
        ({"type": "function", "name": "f"}, ("f",), False),
    ],
)
def test_a_call_that_is_demanded_names_the_tools_that_will_do(
    choice: Any, names: tuple[str, ...], parallel: bool | None
) -> None:
    tools = [*TOOLS, {"type": "function", "function": {"name": "g"}}]
    ask = chat(tools=tools, tool_choice=choice, parse_tool_calls=not names)
    assert (ask.must_call, ask.parallel_tool_calls, ask.parse_tools) == (names, parallel, True)


def test_with_tools_a_schema_wins_over_calls_that_are_only_possible() -> None:
    schema = {"type": "json_object"}
    ask = chat(tools=TOOLS, response_format=schema)
    assert (ask.json_schema, ask.parse_tools) == ("{}", False)
    error = refusal(tools=TOOLS, tool_choice="required", response_format=schema)
    assert (error.status, error.code, error.param) == (400, "conflicting_fields", "tool_choice")


def test_a_grammar_beside_tools_needs_the_word_that_they_are_not_called() -> None:
    assert refusal(tools=TOOLS, grammar="g").code == "conflicting_fields"
    assert chat(tools=TOOLS, grammar="g", tool_choice="none").grammar == "g"


def test_the_budget_of_reasoning_has_two_names() -> None:
    assert (chat().reasoning_budget, chat().reasoning_control) == (-1, False)
    assert chat(thinking_budget_tokens=5).reasoning_budget == 5
    both = {"reasoning_budget_tokens": 0, "thinking_budget_tokens": 5}
    ask = chat(**both, reasoning_budget_message="x", reasoning_control=True)
    assert (ask.reasoning_budget, ask.reasoning_message, ask.reasoning_control) == (0, "x", True)


def test_a_lazy_grammar_has_words_and_tokens() -> None:
    triggers = [{"type": 1, "value": "<a>"}, {"type": "word", "value": "<b>"}, {"type": 0, "value": "<c>", "token": 5},
                {"type": 0, "value": "<d>"}]  # fmt: skip
    ask = chat(grammar="g", grammar_lazy=True, grammar_triggers=triggers, preserved_tokens=["<a>", ""])
    assert (ask.grammar_triggers, ask.preserved_tokens) == (("<a>", "<b>", 5, "<d>"), ("<a>",))
    assert chat(grammar="g", grammar_triggers=triggers).grammar_triggers == ()


def test_without_tools_no_calls_are_parsed() -> None:
    assert not chat().parse_tools
    assert not chat(tools=[{"type": "web_search"}]).parse_tools


def test_reasoning_format_and_parallel_calls_reach_the_worker() -> None:
    assert (chat().reasoning_format, chat().parallel_tool_calls) == ("auto", None)
    assert chat(reasoning_format="deepseek-legacy").reasoning_format == "deepseek-legacy"
    assert chat(parallel_tool_calls=False).parallel_tool_calls is False


@pytest.mark.parametrize(
    ("body", "prompt", "continued"),
    [
        ({}, False, True),
        ({"continue_final_message": "content"}, False, True),
        ({"add_generation_prompt": True}, True, False),
        ({"add_generation_prompt": False}, False, True),
    ],
)
def test_a_trailing_assistant_message_is_continued(body: dict[str, Any], prompt: bool, continued: bool) -> None:
    found = chat(messages=[USER, {"role": "assistant", "content": "I"}], **body).prompt
    assert (found.add_generation_prompt, found.continue_final) == (prompt, continued)


@pytest.mark.parametrize(
    ("tail", "body", "code"),
    [
        ([{"role": "assistant", "content": "a"}] * 2, {}, "invalid_value"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}], {}, "invalid_value"),
        (
            [{"role": "assistant", "content": "a"}],
            {"continue_final_message": True, "add_generation_prompt": True},
            "conflicting_fields",
        ),
        ([{"role": "assistant", "content": "a"}], {"continue_final_message": "thoughts"}, "invalid_value"),
    ],
)
def test_what_cannot_be_continued(tail: list[Any], body: dict[str, Any], code: str) -> None:
    assert refusal(messages=[USER, *tail], **body).code == code


@pytest.mark.parametrize(
    ("prompt", "asks"),
    [
        ("a", [("a",)]),
        ([1, 2], [(1, 2)]),
        (["a", 1], [("a", 1)]),
        (["a", "b"], [("a",), ("b",)]),
        ([[1], "b"], [(1,), ("b",)]),
        ([["a", 1], [2]], [("a", 1), (2,)]),
    ],
)
def test_prompts(prompt: Any, asks: list[Any]) -> None:
    found = openai_completions.parse({"prompt": prompt}, "r").asks
    assert [ask.prompt for ask in found] == [Text(pieces) for pieces in asks]


def test_choices_of_several_prompts_are_prompt_major() -> None:
    plan = openai_completions.parse({"prompt": ["a", "b"], "n": 3, "echo": True}, "r")
    assert [ask.siblings for ask in plan.asks] == [(0, 0), (0, 0)]
    assert plan.openings == ["a"] * 3 + ["b"] * 3
    assert len(chat(n_cmpl=4).siblings) == 3


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"),
        ([], "prompt"),
        (5, "prompt"),
        ([1, True], "prompt[1]"),
        ([-1], "prompt[0]"),
        ([["a"], [1.5]], "prompt[1][0]"),
        (["x"] * 65, "prompt"),
    ],
)
def test_prompts_that_are_none(prompt: Any, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        openai_completions.parse({"prompt": prompt}, "r")
    assert (caught.value.status, caught.value.param) == (400, param)


def test_echo_of_tokens_needs_a_tokenizer() -> None:
    assert openai_completions.parse({"prompt": ["a", "b"], "echo": True}, "r").openings == ["a", "b"]
    with pytest.raises(ApiError) as caught:
        openai_completions.parse({"prompt": [1], "echo": True}, "r")
    assert caught.value.status == 501


def test_tokenize_takes_mixed_content_and_none() -> None:
    assert llama.tokenize({"content": ["a", 1], "add_special": True}).pieces == ("a", 1)
    assert llama.tokenize({}).pieces == llama.tokenize({"content": ""}).pieces == ()
    with pytest.raises(ApiError):
        llama.tokenize({"content": {"a": 1}})
    with pytest.raises(ApiError) as caught:
        llama.detokenize({"tokens": [1, "a"]})
    assert caught.value.param == "tokens[1]"


def test_each_code_has_one_status_and_the_object_its_shape() -> None:
    for code, (status, kind) in STATUS.items():
        error = ApiError(code, "m", param="p", hint=1)
        assert error.object == {
            "error": {"message": "m", "type": kind, "code": code, "status": status, "param": "p", "hint": 1}
        }
    assert ApiError("no_such_code", "m").status == 500
    assert (b"retry-after", b"1") in ApiError("model_backoff", "m", retry_after=0.2).headers
    assert (b"x-should-retry", b"false") in ApiError("worker_hung", "m").headers
