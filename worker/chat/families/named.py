"""Calls that say the name first, and then the arguments alone as JSON."""

from __future__ import annotations

from worker.chat.families.family import Call, Family, Hide, Rule, row
from worker.chat.families.objects import MISTRAL_LIST
from worker.chat.families.thinking import LINES
from worker.chat.steps import Blank, Index, Maybe, Name, OneOf, Until

_GAP = Blank()
_BRACE = OneOf(("{",), look=True)

MISTRAL = Family(
    "mistral",
    ("[TOOL_CALLS]",),
    calls=(
        MISTRAL_LIST,
        Rule(row(LINES, "[TOOL_CALLS]", _GAP, Name(), "[CALL_ID]", Until("[ARGS]", id=True), _GAP, _BRACE), Call()),
        Rule(row(LINES, "[TOOL_CALLS]", _GAP, Name(), Maybe("[ARGS]"), _GAP, _BRACE), Call()),
    ),
    short_ids=True,
)

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _SEPARATOR, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_OPEN = (LINES, Maybe(_CALLS, blank=True), _CALL, _GAP)
DEEPSEEK = Family(
    "deepseek",
    ("tool▁call▁begin",),
    calls=(
        Rule(
            row(*_OPEN, "function", _SEPARATOR, Name(), _GAP, "```json", _GAP, _BRACE),
            Call(closers=("```", _CALL_END, _CALLS_END)),
        ),
        Rule(row(*_OPEN, Name(), _GAP, _SEPARATOR, _GAP, _BRACE), Call(closers=(_CALL_END, _CALLS_END))),
    ),
)

_SECTION, _SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
KIMI = Family(
    "kimi",
    ("<|tool_call_begin|>", "<|im_middle|>"),  # the first template shows no call
    calls=(
        Rule(
            row(LINES, Maybe(_SECTION, blank=True), "<|tool_call_begin|>", _GAP, Maybe("functions."), Name(), ":",
                Index("functions."), _GAP, "<|tool_call_argument_begin|>", _GAP, _BRACE),
            Call(closers=("<|tool_call_end|>", _SECTION_END)),
        ),
    ),
    hidden=(Rule(row(LINES, _SECTION_END), Hide(), anchored=True),),
    calls_end_thought=True,
)  # fmt: skip
