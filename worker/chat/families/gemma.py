"""Gemma 4: channels and calls in brackets of its own, arguments with bare keys."""

from __future__ import annotations

from worker.chat.families.family import Call, Family, Rule, Thought, row
from worker.chat.families.thinking import LINES
from worker.chat.literals import BareArguments
from worker.chat.steps import Name

GEMMA = Family(
    "gemma",
    ("<|channel>", "<|tool_call>"),
    thoughts=(Rule(row(LINES, "<|channel>thought"), Thought(ends=(row(LINES, "<channel|>"),))),),
    calls=(
        Rule(
            row(LINES, "<|tool_call>call:", Name(), BareArguments('<|"|>')),
            Call(closers=("<tool_call|>",)),
        ),
    ),
)
