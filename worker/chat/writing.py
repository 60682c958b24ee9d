"""The other direction of a family's table: a grammar of the calls that the machine reads. ENGINE.md, 8 and 11.

What the machine need not see, the model need not write: it chooses as it was trained. Calls of Python's syntax, which
only tools built into a model use, are read but not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.chat.families.family import Call, Family, Row, Rule
from worker.chat.literals import BareArguments, PythonArguments
from worker.chat.objects import CallObject, CallObjectEnd
from worker.chat.steps import Blank, Exact, Index, Maybe, Name, OneOf, Step, Until
from worker.chat.values import arguments, bare, tagged
from worker.grammar import GrammarError
from worker.json_schema import dumped
from worker.lark import Hidden, Writer, any_of

Function = dict[str, Any]  # as the client declares it: name, parameters


def message(family: Family, functions: Sequence[Function], hidden: Hidden, *, many: bool, lead: bool) -> str:
    """The grammar of a message that is one call or, if `many`, at least one. Raises GrammarError.

    lead: white space may come first, as after reasoning.
    """
    writer = Writer(hidden)
    calls = _Calls(writer, functions, many=many)
    rules = writable(family)
    if not rules:
        raise GrammarError("the family has no calls that can be written")
    start = writer.rule(any_of([calls.of(rule, rule.steps) for rule in rules]))
    if many:
        next_ones = [calls.of(rule, rule.steps) for rule in rules if not _first_only(rule)]
        start = f"{start} ({writer.gap} {writer.rule(any_of(next_ones))})*"
    return writer.text(f"{writer.lead} {start}" if lead else start)


def bodies(family: Family, functions: Sequence[Function], hidden: Hidden) -> dict[Rule, str]:
    """For each rule with an opener, the grammar of what may follow it: one call, or one list of them."""
    found = {}
    for rule in writable(family):
        if rule.opener >= 0:
            writer = Writer(hidden)
            calls = _Calls(writer, functions, many=True)
            marker = _marker(rule.steps[: rule.opener + 1])
            options = [calls.of(other, rest) for other in writable(family)
                       if (rest := _behind(other, marker)) is not None]  # fmt: skip
            found[rule] = writer.text(any_of(options))
    return found


def answer(family: Family | None, schema: Any, hidden: Hidden, *, lead: bool) -> str:
    """The grammar of a message whose content fits a schema. Raises GrammarError."""
    writer = Writer(hidden)
    parts = [writer.json(schema)]
    if family is not None:
        parts = [*_fixed(family.before, writer), *parts, *_fixed(family.after, writer)]
    return writer.text(" ".join([writer.lead, *parts] if lead else parts))


def writable(family: Family) -> list[Rule]:
    return [rule for rule in family.calls if not any(isinstance(step, PythonArguments) for step in rule.steps)]


def _first_only(rule: Rule) -> bool:
    """Whether its text goes on with what the prompt ends with."""
    return rule.anchored and isinstance(rule.steps[0], Exact)


def _fixed(steps: Row, writer: Writer) -> list[str]:
    found = []
    for step in steps:
        match step:
            case Exact():
                found.append(writer.literal(step.text))
            case Maybe():
                found.append(f"({writer.literal(step.text)})?")
    return found


def _marker(steps: Sequence[Step]) -> str:
    return "".join(step.text for step in steps if isinstance(step, Exact))


def _behind(rule: Rule, marker: str) -> Row | None:
    """The steps behind this marker, if the rule begins with it."""
    for at in range(rule.opener + 1):
        if isinstance(rule.steps[at], Exact) and _marker(rule.steps[: at + 1]) == marker:
            return rule.steps[at + 1 :]
    return None


@dataclass
class _Calls:
    """Calls of these functions."""

    writer: Writer
    functions: Sequence[Function]
    many: bool

    def of(self, rule: Rule, steps: Row) -> str:
        """A call by this rule, from some step on; or a list of calls where the family has lists."""
        assert isinstance(rule.then, Call)
        calls = [self.writer.rule(" ".join(self._parts(steps, rule.then, function))) for function in self.functions]
        return f"{any_of(calls)} {self._closing(rule.then)}".strip()

    def _parts(self, steps: Row, call: Call, function: Function) -> list[str]:
        """From the opening to the end of the arguments."""
        parts = [part for step in steps for part in self._step(step, function)]
        if call.tags is not None:
            parts += tagged(call.tags, function, self.writer)
        elif not any(isinstance(step, CallObject | BareArguments) for step in steps):
            parts.append(arguments(function, self.writer))
        return parts

    def _closing(self, call: Call) -> str:
        """What follows the arguments. A list must be closed; else the model may end."""
        gap, literal = self.writer.gap, self.writer.literal
        closers, parts = call.closers, []
        if call.more:
            if self.many:
                objects = [" ".join(part for step in call.more for part in self._step(step, function))
                           for function in self.functions]  # fmt: skip
                parts.append(f"{any_of(objects)}*" if len(objects) > 1 else f"({objects[0]})*")
            parts += [gap, literal(closers[0])]
            closers = closers[1:]
        parts += [f"({gap} {literal(closer)})?" for closer in closers]
        return " ".join(parts)

    def _step(self, step: Step, function: Function) -> list[str]:
        writer = self.writer
        match step:
            case Blank():
                return [writer.gap]
            case Exact():
                return [writer.literal(step.text)]
            case Maybe():
                return [f"({writer.literal(step.text)} {writer.gap if step.blank else ''})?"]
            case OneOf():
                return [] if step.look else [writer.literal(step.texts[0])]
            case Name():
                return [writer.literal(function["name"])]
            case Until():
                return [writer.lexeme("/[A-Za-z0-9]{9}/"), writer.literal(step.text)]
            case Index():
                return [writer.lexeme("/[0-9]{1,2}/")]
            case BareArguments():
                return [bare(function, step.quote, writer)]
            case CallObject():
                return [self._object(step, function)]
            case CallObjectEnd():
                return []
        raise AssertionError(f"{type(step).__name__} is not written")

    def _object(self, step: CallObject, function: Function) -> str:
        writer, gap = self.writer, self.writer.gap
        colon, comma = f'{gap} ":" {gap}', f'{gap} "," {gap}'
        digits = writer.lexeme('/"[0-9]{1,2}"/')
        number = f"{_key(step.id)} {colon} {digits} {comma}" if step.numbered else ""
        name = f"{_key(step.name)} {colon} {_key(function['name'])}"
        rest = f"{_key(step.arguments[0])} {colon} {arguments(function, writer)}"
        return writer.rule(f'"{{" {gap} {number} {name} {comma} {rest} {gap} "}}"')


def _key(text: str) -> str:
    """The expression of a JSON string."""
    return dumped(dumped(text))
