"""Chooses what a request's output is read with: from the model's template, and from what the request asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from worker.chat.arguments import Tools
from worker.chat.families import choose
from worker.chat.families.family import End, Hide, Row, Rule, Rules, Thought
from worker.chat.machine import Format, Machine
from worker.chat.steps import Exact, OneOf
from worker.protocol import Chat, Generate

TAIL = 16  # tokens of a prompt that show whether it ends inside the reasoning
Hidden = Callable[[Iterable[str]], Mapping[int, bytes]]


class Parser:
    """Of one model. Safe in any thread: its formats are made once and never change."""

    def __init__(self, template: str, hidden: Hidden, *, parallel: bool = True) -> None:
        """hidden: the tokens which are not shown as text and are spelled in these texts.

        parallel: a message of this template may have several calls.
        """
        self._family, self._hidden, self._parallel = choose(template), hidden, parallel
        self._format = cache(self._new_format)

    def machine(self, request: Generate, tail: Callable[[], str]) -> Machine | None:
        """A machine for this request, None if its output is only text. `tail` gives the end of the prompt."""
        chat, family = request.prompt, self._family
        if family is None or not isinstance(chat, Chat):
            return None
        calls = request.parse_tools and bool(chat.tools) and bool(family.calls)
        reasoning = bool(family.thoughts) and splits(request)
        format = self._format(reasoning, calls)
        if not (format.content.rules or format.shown):
            return None
        opened = reasoning and tail().rstrip().endswith(self._openings)
        parallel = self._parallel if request.parallel_tool_calls is None else request.parallel_tool_calls
        return Machine(format, Tools(chat.tools or ()), thinking=opened, single=not parallel)

    @property
    def _openings(self) -> tuple[str, ...]:
        thoughts = self._family.thoughts if self._family else ()
        return tuple("".join(step.text for step in rule.steps if isinstance(step, Exact)) for rule in thoughts)

    def _new_format(self, reasoning: bool, calls: bool) -> Format:
        family = self._family
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


def _takes(end: Row) -> bool:
    return not (isinstance(end[-1], OneOf) and end[-1].look)


def splits(request: Generate) -> bool:
    """Whether reasoning goes into a field of its own."""
    if request.reasoning_format == "deepseek-legacy":
        return not request.stream
    return request.reasoning_format in ("auto", "deepseek")
