"""Reasoning between a pair of markers."""

from __future__ import annotations

from worker.chat.families.family import Family, Hide, Rule, Thought, row
from worker.chat.steps import Blank, Maybe

LINES = Blank(lines=True)


def pair(opening: str, closing: str, *, anchored: bool) -> Rule:
    """Reasoning from one marker to the other."""
    return Rule(row(LINES, opening), Thought(ends=(row(LINES, closing),)), anchored)


# A user may ask about these tags, so they are meant only where a message begins.
THINK = Family("think", ("<think>", "</think>"), thoughts=(pair("<think>", "</think>", anchored=True),))
BRACKETS = Family("brackets", ("[THINK]",), thoughts=(pair("[THINK]", "[/THINK]", anchored=False),))
GRANITE = Family(
    "granite",
    ("<response>",),
    thoughts=(pair("<think>", "</think>", anchored=True),),
    hidden=(
        Rule(row(LINES, "<response>"), Hide(), anchored=True),
        Rule(row(LINES, "</response>"), Hide()),
    ),
    before=(Maybe("<response>"),),
    after=(Maybe("</response>"),),
)
COMMAND = Family(
    "command",
    ("<|START_THINKING|>",),
    thoughts=(pair("<|START_THINKING|>", "<|END_THINKING|>", anchored=False),),
    hidden=tuple(
        Rule(row(LINES, f"<|{edge}_{part}|>"), Hide()) for edge in ("START", "END") for part in ("RESPONSE", "TEXT")
    ),
    before=(Maybe("<|START_RESPONSE|>"),),
    after=(Maybe("<|END_RESPONSE|>"),),
)
