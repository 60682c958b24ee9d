"""Outputs of models, written by the formats of their families, and what a client must see of them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from worker.chat.machine import Kind, Machine, Part
from worker.chat.parser import Parser
from worker.protocol import Chat, Generate

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "metric": {"type": "boolean"},
        "spots": {"type": "array"}, "note": {"type": ["string", "null"]}}}}},
    {"type": "function", "function": {"name": "weather_map", "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"name": "run", "parameters": {"type": "object", "properties": {
        "code": {"type": "string"}}}}},
]  # fmt: skip
Call = tuple[str, dict[str, Any]]


class Case(NamedTuple):
    """thinking: the prompt has opened the reasoning; `tail` is its end then."""

    template: str
    output: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    tail: str = ""


class Seen(NamedTuple):
    """What a client has in the end; calls with their arguments as text."""

    content: str
    reasoning: str
    calls: tuple[tuple[str, str], ...]


def machine(
    template: str, *, tail: str = "", tools: bool = True, tools_given: list[dict[str, Any]] = TOOLS, **keys: Any
) -> Machine:
    ask = Generate(1, "r", Chat([], tools=tools_given), parse_tools=tools, **{"reasoning_format": "auto"} | keys)
    found = Parser(template, lambda _: {}).machine(ask, lambda: tail)
    assert found is not None
    return found


def run(reader: Machine, *pieces: str, complete: bool = True) -> list[Part]:
    parts = [part for piece in pieces for part in reader.feed(piece)]
    return parts + reader.finish(complete=complete)


def seen(parts: list[Part]) -> Seen:
    """Raises if arguments come before their call, or calls out of order."""
    texts = {Kind.CONTENT: "", Kind.REASONING: ""}
    calls: list[list[str]] = []
    for part in parts:
        assert part.text
        if part.kind is Kind.CALL:
            assert part.call == len(calls)
            assert part.id
            calls.append([part.text, ""])
        elif part.kind is Kind.ARGUMENTS:
            assert part.call == len(calls) - 1
            calls[-1][1] += part.text
        else:
            texts[part.kind] += part.text
    return Seen(texts[Kind.CONTENT], texts[Kind.REASONING], tuple((name, text) for name, text in calls))


def whole(case: Case) -> Seen:
    return seen(run(machine(case.template, tail=case.tail), case.output))


PARIS: Call = ("weather", {"city": "Paris", "days": 2})
MAP: Call = ("weather_map", {})
TRICKY: Call = ("run", {"code": "print(\"<b>\\n}{][\", 'é')\n# </tool_call> `x`"})
J_PARIS, J_MAP, J_TRICKY = (json.dumps(call[1], ensure_ascii=False) for call in (PARIS, MAP, TRICKY))

THINK = "<think></think>"
HERMES = THINK + "<tool_call>"
CODER = THINK + "<tool_call><function=x><parameter=y>"
GLM = THINK + "<tool_call><arg_key>"
LLAMA = "<|python_tag|>"
MISTRAL = "[TOOL_CALLS][THINK]"
DEEPSEEK = "<think><｜tool▁call▁begin｜>"
KIMI = "<think><|tool_call_begin|>"
HARMONY = "<|channel|>"
GRANITE = "<|start_of_role|><think><response><|tool_call|>"
COMMAND = "<|START_ACTION|><|START_THINKING|>"
PHI = "<think><|tool_call|>"
GEMMA = "<|channel><|tool_call>"
DSML = "<think>｜DSML｜"

_R1 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
_V31 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
_K2 = "<|tool_call_begin|>functions.{}:{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
_CODER_PARIS = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>"
)
_GLM_PARIS = (
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
)
_D = "｜DSML｜"

CASES = {
    "plain": Case(THINK, "Hello, <b>you</b>! 1 < 2", "Hello, <b>you</b>! 1 < 2"),
    "think": Case(THINK, "<think>\nLet me see.\n\nYes.\n</think>\n\nHello", "Hello", "Let me see.\n\nYes."),
    "think opened": Case(THINK, "Let me see.\n</think>\n\nHello", "Hello", "Let me see.", tail="assistant\n<think>\n"),
    "think empty": Case(THINK, "<think>\n\n</think>\n\nHello", "Hello"),
    "think never closed": Case(THINK, "<think>a < b", "", "a < b"),
    "think doubled": Case(THINK, "<think><think>a</think></think>b", "b", "a"),
    "think late": Case(THINK, "The tag <think> and </think>", "The tag <think> and </think>"),
    "hermes": Case(
        HERMES,
        "<think>\nHm.\n</think>\n\nOne moment.\n"
        f'<tool_call>\n{{"name": "weather", "arguments": {J_PARIS}}}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "weather_map", "arguments": {{}}}}\n</tool_call>',
        "One moment.", "Hm.", (PARIS, MAP),
    ),
    "hermes other order": Case(
        HERMES, f'<tool_call>{{"arguments": {J_TRICKY}, "name": "run"}}</tool_call>', calls=(TRICKY,)
    ),
    "hermes arguments as text": Case(
        HERMES, f'<tool_call>{{"name":"run","arguments":{json.dumps(J_TRICKY)}}}</tool_call>\nDone.', "Done.",
        calls=(TRICKY,),
    ),
    "hermes late thought": Case(HERMES, "The tag <think> and </think>", "The tag <think> and </think>"),
    "hermes object broken": Case(
        HERMES, '<tool_call>{"name": "weather_map", "arguments": {}, oops', ", oops", calls=(MAP,)
    ),
    "hermes no arguments": Case(HERMES, '<tool_call>{"name": "weather_map"}</tool_call>', calls=(MAP,)),
    "coder": Case(CODER, f"Sure.\n\n{_CODER_PARIS}", "Sure.", calls=(PARIS,)),
    "coder in thought": Case(CODER, f"<think>\nHm.\n{_CODER_PARIS}\nDone", "Done", "Hm.", (PARIS,)),
    "coder bare": Case(
        CODER, f"<function=run>\n<parameter=code>\n{TRICKY[1]['code']}\n</parameter>\n</function>", calls=(TRICKY,)
    ),
    "coder empty": Case(CODER, "<tool_call>\n<function=weather_map>\n</function>\n</tool_call>", calls=(MAP,)),
    "coder ends early": Case(CODER, "<function=run><parameter=code>x</parameter>", calls=(("run", {"code": "x"}),)),
    "coder types": Case(
        CODER,
        "<function=weather><parameter=metric>True</parameter><parameter=spots>\n[1, \"a\"]\n</parameter>"
        "<parameter=note>null</parameter><parameter=days>many</parameter><parameter=else>{\"a\": 1}</parameter>"
        "<parameter=city>\n\n5\n\n</parameter></function>",
        calls=(("weather", {"metric": True, "spots": [1, "a"], "note": None, "days": "many", "else": {"a": 1},
                            "city": "\n5\n"}),),
    ),
    "coder tags in a value": Case(
        CODER, "<function=run><parameter=code>x</parameter> y\n</parameter></function>",
        calls=(("run", {"code": "x</parameter> y"}),),
    ),
    "glm": Case(GLM, f"<think>Hm.</think>\nSure.\n{_GLM_PARIS}\n{_GLM_PARIS}", "Sure.", "Hm.", (PARIS, PARIS)),
    "glm empty": Case(GLM, "<tool_call>weather_map\n</tool_call>", calls=(MAP,)),
    "llama": Case(LLAMA, f'{{"name": "weather", "parameters": {J_PARIS}}}', calls=(PARIS,)),
    "llama tag": Case(LLAMA, f'<|python_tag|>{{"type": "function", "name": "run", "parameters": {J_TRICKY}}}',
                      calls=(TRICKY,)),
    "llama two": Case(
        LLAMA, f'{{"name": "weather", "parameters": {J_PARIS}}}; {{"name": "weather_map", "parameters": {{}}}}',
        calls=(PARIS, MAP),
    ),
    "llama python": Case(LLAMA, '<|python_tag|>weather.call(city="Paris", days=2)', calls=(PARIS,)),
    "llama object": Case(LLAMA, '{"answer": 5, "name": "run"}', '{"answer": 5, "name": "run"}'),
    "llama late": Case(LLAMA, 'So: {"name": "run", "parameters": {}}', 'So: {"name": "run", "parameters": {}}'),
    "mistral": Case(
        MISTRAL,
        f'[TOOL_CALLS][{{"name": "weather", "arguments": {J_PARIS}, "id": "abc123def"}}, '
        f'{{"name": "run", "arguments": {J_TRICKY}}}]',
        calls=(PARIS, TRICKY),
    ),
    "mistral new": Case(
        MISTRAL, f"[THINK]Hm.[/THINK]Sure.[TOOL_CALLS]weather[ARGS]{J_PARIS}[TOOL_CALLS]weather_map[ARGS]{{}}",
        "Sure.", "Hm.", (PARIS, MAP),
    ),
    "mistral ids": Case(MISTRAL, f"[TOOL_CALLS]run[CALL_ID]a1b2c3d4e[ARGS]{J_TRICKY}", calls=(TRICKY,)),
    "deepseek r1": Case(
        DEEPSEEK,
        "Hm.\n</think>\n\n<｜tool▁calls▁begin｜>" + _R1.format("weather", J_PARIS) + "\n" + _R1.format("run", J_TRICKY)
        + "<｜tool▁calls▁end｜>",
        "", "Hm.", (PARIS, TRICKY), tail="<｜Assistant｜><think>\n",
    ),
    "deepseek v3.1": Case(
        DEEPSEEK,
        "Sure.<｜tool▁calls▁begin｜>" + _V31.format("weather", J_PARIS) + _V31.format("weather_map", "{}")
        + "<｜tool▁calls▁end｜>",
        "Sure.", "", (PARIS, MAP),
    ),
    "dsml": Case(
        DSML,
        f'Hm.</think>Sure.\n\n<{_D}function_calls>\n<{_D}invoke name="weather">\n'
        f'<{_D}parameter name="city" string="true">Paris</{_D}parameter>\n'
        f'<{_D}parameter name="days" string="false">2</{_D}parameter>\n</{_D}invoke>\n</{_D}function_calls>',
        "Sure.", "Hm.", (PARIS,), tail="<think>",
    ),
    "kimi": Case(
        KIMI,
        "<think>Hm.<|tool_calls_section_begin|>" + _K2.format("weather", 0, J_PARIS) + _K2.format("run", 1, J_TRICKY)
        + "<|tool_calls_section_end|>",
        "", "Hm.", (PARIS, TRICKY),
    ),
    "harmony": Case(
        HARMONY,
        "<|channel|>analysis<|message|>Hm. <b><|end|><|start|>assistant<|channel|>final<|message|>Hello",
        "Hello", "Hm. <b>", tail="<|start|>assistant",
    ),
    "harmony call": Case(
        HARMONY,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Sure.<|end|>"
        f"<|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{J_PARIS}",
        "Sure.", "Hm.", (PARIS,),
    ),
    "harmony role": Case(
        HARMONY, f" to=functions.run<|channel|>commentary json<|message|>{J_TRICKY}", calls=(TRICKY,)
    ),
    "granite": Case(
        GRANITE, f'<|tool_call|>[{{"name": "weather", "arguments": {J_PARIS}}}, {{"name": "weather_map"}}]',
        calls=(PARIS, MAP),
    ),
    "granite thought": Case(GRANITE, "<think>Hm.</think><response>Hello</response>", "Hello", "Hm."),
    "granite 4": Case(
        GRANITE, f'<tool_call>\n{{"name": "weather", "arguments": {J_PARIS}}}\n</tool_call>', calls=(PARIS,)
    ),
    "command": Case(
        COMMAND,
        '<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n'
        f'    {{"tool_call_id": "0", "tool_name": "weather", "parameters": {J_PARIS}}},\n'
        f'    {{"tool_call_id": "1", "tool_name": "run", "parameters": {J_TRICKY}}}\n]<|END_ACTION|>',
        "", "Hm.", (PARIS, TRICKY),
    ),
    "command answer": Case(
        COMMAND, "Hm.<|END_THINKING|><|START_RESPONSE|>Hello<|END_RESPONSE|>", "Hello", "Hm.",
        tail="<|CHATBOT_TOKEN|><|START_THINKING|>",
    ),
    "gemma": Case(
        GEMMA,
        '<|channel>thought\nHm.<channel|>Sure.\n<|tool_call>call:weather{city:<|"|>Paris<|"|>,days:2}<tool_call|>'
        '<|tool_call>call:weather_map{}<tool_call|>',
        "Sure.", "Hm.", (PARIS, MAP),
    ),
    "gemma nested": Case(
        GEMMA,
        '<|tool_call>call:weather{spots:[{name:<|"|>a: }b<|"|>,<|"|>x y<|"|>:null},true],city:<|"|>"q"\n<|"|>}'
        "<tool_call|>",
        calls=(("weather", {"spots": [{"name": "a: }b", "x y": None}, True], "city": '"q"\n'}),),
    ),
    "phi one": Case(
        PHI, f'Sure.<|tool_call|>{{"name": "run", "arguments": {J_TRICKY}}}<|/tool_call|>', "Sure.", calls=(TRICKY,)
    ),
    "phi": Case(
        PHI, f'<|tool_call|>[{{"name": "weather", "arguments": {J_PARIS}}}]<|/tool_call|>', calls=(PARIS,)
    ),
}  # fmt: skip
