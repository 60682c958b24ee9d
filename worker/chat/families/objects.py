"""Calls as JSON objects that hold the name and the arguments, alone or in a list."""

from __future__ import annotations

from worker.chat.families.family import Call, Family, Row, Rule, row
from worker.chat.families.thinking import LINES
from worker.chat.literals import PythonArguments
from worker.chat.objects import CallObject, CallObjectEnd
from worker.chat.steps import Blank, Name, Step

_GAP = Blank()
_CALL = CallObject()
_LLAMA = CallObject(arguments=("parameters", "arguments"))
_NEXT: Row = row(CallObjectEnd(), _GAP, ",", _GAP)


def listed(opening: str, end: str = "", call: Step = _CALL, *, anchored: bool = False) -> Rule:
    """`opening[{…}, {…}]end`."""
    closers = ("]", end) if end else ("]",)
    return Rule(row(LINES, opening, _GAP, "[", _GAP, call), Call(more=(*_NEXT, call), closers=closers), anchored)


HERMES = Family(
    "hermes",
    ("<tool_call>",),
    calls=(Rule(row(LINES, "<tool_call>", _GAP, _CALL), Call(closers=("</tool_call>",))),),
)
LLAMA = Family(
    "llama",
    ("<|python_tag|>", '{"name": function name, "parameters":'),
    calls=(
        Rule(row(LINES, "<|python_tag|>", _GAP, Name(), ".call(", PythonArguments()), Call()),
        Rule(row(LINES, "<|python_tag|>", _GAP, _LLAMA), Call(closers=(";",))),
        Rule((_LLAMA,), Call(closers=(";",)), anchored=True),
    ),
)
GRANITE = Family(
    "granite",
    ("<|start_of_role|>", "<response>"),
    calls=(listed("<|tool_call|>"), listed("<tool_call>"), *HERMES.calls),
)
PHI = Family(
    "phi",
    ("<|tool_call|>",),
    calls=(
        listed("<|tool_call|>", "<|/tool_call|>"),
        Rule(row(LINES, "<|tool_call|>", _GAP, _CALL), Call(closers=("<|/tool_call|>",))),
    ),
)
COMMAND = Family(
    "command",
    ("<|START_ACTION|>",),
    calls=(
        listed(
            "<|START_ACTION|>",
            "<|END_ACTION|>",
            CallObject("tool_name", ("parameters", "arguments"), "tool_call_id", numbered=True),
        ),
    ),
)
MISTRAL_LIST = listed("[TOOL_CALLS]")
