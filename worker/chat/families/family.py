"""What a family of chat formats is made of: frozen data, read by worker.chat.machine. ENGINE.md, 11."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile

from worker.chat.objects import CallObjectEnd
from worker.chat.steps import BLANK, Blank, Exact, Maybe, OneOf, Step

Row = tuple[Step, ...]


def row(*steps: Step | str) -> Row:
    """The steps of a rule; a string stands for itself."""
    return tuple(Exact(step) if isinstance(step, str) else step for step in steps)


@dataclass(frozen=True, slots=True)
class Tags:
    """Arguments as tagged keys and values, made JSON on the way. `value_end` closes a value if one of `after` follows.

    lines: the line break after the opening and before the closing tag of a value belongs to the tags.
    typed: the tag says in `string="…"` whether the value is text; else the tool's schema says it.
    """

    key: Row
    value_end: str
    end: str
    after: tuple[str, ...]
    lines: bool = False
    typed: bool = False

    @property
    def closing(self) -> Row:
        """What ends a value."""
        lead: Row = (Maybe("\n"),) if self.lines else ()
        return (*lead, Exact(self.value_end), Blank(), OneOf(self.after, look=True))


@dataclass(frozen=True, slots=True)
class Call:
    """How the arguments of a call go on, and what may follow them. tags: None for JSON.

    more: what opens the next call of the same list. closers: markers that are not shown, each of them optional.
    """

    tags: Tags | None = None
    more: Row = ()
    closers: tuple[str, ...] = ()

    @property
    def closing(self) -> Row:
        blank_and = [step for closer in self.closers for step in (Blank(), Maybe(closer))]
        return (CallObjectEnd(), *blank_and)


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning, from its opening to one of its ends; what an end only looks at stays to be read."""

    ends: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Of reasoning."""


@dataclass(frozen=True, slots=True)
class Hide:
    """A marker that means nothing to a client."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where these steps fit, this begins. anchored: only before any text of a message, or after a call.

    opener: the step that ends a call's fixed marker, so that only a call can follow; -1 if none does.
    """

    steps: Row
    then: Call | Thought | Hide | End
    anchored: bool = False
    opener: int = field(init=False, compare=False, default=-1)

    def __post_init__(self) -> None:
        if isinstance(self.then, Call):
            fixed = list(takewhile(lambda step: isinstance(step, Blank | Maybe | Exact | OneOf), self.steps))
            places = [at for at, step in enumerate(fixed) if isinstance(step, Exact)]
            object.__setattr__(self, "opener", places[-1] if places else -1)


@dataclass(frozen=True)
class Family:
    """`marks`: the words in a template that tell it, any of them; `thoughts` and `calls` may each come from another."""

    name: str
    marks: tuple[str, ...]
    thoughts: tuple[Rule, ...] = ()
    calls: tuple[Rule, ...] = ()
    hidden: tuple[Rule, ...] = ()
    short_ids: bool = False  # nine letters and digits
    calls_end_thought: bool = False  # the model calls without closing its reasoning
    before: Row = ()  # what the model writes before and after the text of an answer
    after: Row = ()


class Rules:
    """A row of rules with the places where they may begin. Of those that fit at one place, the first counts."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.fresh = _first(self.rules)
        self.later = _first([rule for rule in self.rules if not rule.anchored])

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """All literal texts of the rules."""
        steps = [step for rule in self.rules for step in _all(rule)]
        return tuple({text for step in steps for text in step.spellings})


def _beginnings(steps: Row) -> str:
    found = ""
    for step in steps:
        if isinstance(step, Maybe):
            found += step.text[0]
        elif isinstance(step, Blank):
            found += "\n" if step.lines else " \n\t\r"
        elif first := step.beginnings():
            return found + first
    return found


def _first(rules: Sequence[Rule]) -> re.Pattern[str]:
    """Finds where one of the rules may begin. Line breaks count only before such a place, or at the end of the text."""
    chars = {char for rule in rules for char in _beginnings(rule.steps)}
    others = "".join(sorted(chars - {"\n"}))
    if not others:
        return re.compile(r"(?!)")
    lines = rf"\n{{0,{BLANK}}}" if "\n" in chars else ""
    return re.compile(f"{lines}[{re.escape(others)}]" + (rf"|\n{{1,{BLANK}}}\Z" if lines else ""))


def _all(rule: Rule) -> list[Step]:
    steps = [*rule.steps]
    if isinstance(rule.then, Call):
        steps += [*rule.then.more, *rule.then.closing]
        if tags := rule.then.tags:
            steps += [*tags.key, *tags.closing, Exact(tags.end)]
    elif isinstance(rule.then, Thought):
        steps += [step for end in rule.then.ends for step in end]
    return steps
