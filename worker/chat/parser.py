"""Chooses what a request's output is read with: from the model's template, and from what the request asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from worker.chat.arguments import Tools
from worker.chat.derived import Render, complete
from worker.chat.families import choose
from worker.chat.families.family import End, Hide, Row, Rule, Rules, Thought
from worker.chat.machine import Format, Machine
from worker.chat.steps import Exact, OneOf
from worker.protocol import Chat, Generate

TAIL = 16  # tokens of a prompt that show whether it ends inside the reasoning
Hidden = Callable[[Iterable[str]], Mapping[int, bytes]]


class Parser:
    """Of one model. Safe in any thread: its formats are made once and never change."""

    def __init__(self, template: str, hidden: Hidden, *, parallel: bool = True, render: Render | None = None) -> None:
        """hidden: the tokens which are not shown as text and are spelled in these texts.

        parallel: a message of this template may have several calls. render: renders messages, where no table may fit.
        """
        self._hidden, self._parallel = hidden, parallel
        self.family = complete(choose(template), render) if render else choose(template)
        self._format = cache(self._new_format)

    def machine(self, request: Generate, tail: Callable[[], str]) -> Machine | None:
        """A machine for this request, None if its output is only text. `tail` gives the end of the prompt."""
        calls, reasoning = self.splits_calls(request), self.splits_reasoning(request)
        return self._machine(request, tail, reasoning=reasoning, calls=calls)

    def watching(self, request: Generate, tail: Callable[[], str]) -> Machine | None:
        """One that knows of the reasoning, though the request wants its output as it is."""
        family = self.family
        if family is None or not family.thoughts:
            return None
        return self._machine(request, tail, reasoning=True, calls=self.splits_calls(request))

    def splits_calls(self, request: Generate) -> bool:
        chat, family = request.prompt, self.family
        return request.parse_tools and isinstance(chat, Chat) and bool(chat.tools and family and family.calls)

    def splits_reasoning(self, request: Generate) -> bool:
        return self.family is not None and bool(self.family.thoughts) and splits(request)

    def many(self, request: Generate) -> bool:
        """Whether a reply may have several calls."""
        return self._parallel if request.parallel_tool_calls is None else request.parallel_tool_calls

    @property
    def thought(self) -> tuple[str, str]:
        """What opens and what ends the reasoning, "" where the family has none."""
        for rule in self.family.thoughts if self.family else ():
            if isinstance(rule.then, Thought):
                return _fixed(rule.steps), _fixed(rule.then.ends[0])
        return "", ""

    def _machine(self, request: Generate, tail: Callable[[], str], *, reasoning: bool, calls: bool) -> Machine | None:
        chat = request.prompt
        if self.family is None or not isinstance(chat, Chat):
            return None
        format = self._format(reasoning, calls)
        if not (format.content.rules or format.shown):
            return None
        opened = reasoning and tail().rstrip().endswith(self._openings)
        return Machine(format, Tools(chat.tools or ()), thinking=opened, single=not self.many(request))

    @property
    def _openings(self) -> tuple[str, ...]:
        return tuple(_fixed(rule.steps) for rule in self.family.thoughts) if self.family else ()

    def _new_format(self, reasoning: bool, calls: bool) -> Format:
        family = self.family
        assert family is not None
        thoughts, hidden = (family.thoughts, family.hidden) if reasoning else ((), ())
        openings = family.calls if calls else ()
        ends = [end for rule in thoughts if isinstance(rule.then, Thought) for end in rule.then.ends]
        doubled = [Rule(end, Hide(), anchored=True) for end in ends if _takes(end)]
        again = [Rule(rule.steps, Hide(), anchored=True) for rule in thoughts]
        inner = [rule for rule in openings if family.calls_end_thought and not rule.anchored]
        content = Rules([*thoughts, *openings, *hidden, *doubled])
        within = Rules([*(Rule(end, End()) for end in ends), *again, *inner])
        spellings = {*content.spellings, *within.spellings}
        if not reasoning:  # raw output has its markers in it
            spellings.update(Rules(family.thoughts).spellings)
        return Format(content, within, self._hidden(spellings), family.short_ids)


def _fixed(steps: Row) -> str:
    return "".join(step.text for step in steps if isinstance(step, Exact))


def _takes(end: Row) -> bool:
    return not (isinstance(end[-1], OneOf) and end[-1].look)


def splits(request: Generate) -> bool:
    """Whether reasoning goes into a field of its own."""
    if request.reasoning_format == "deepseek-legacy":
        return not request.stream
    return request.reasoning_format in ("auto", "deepseek")
