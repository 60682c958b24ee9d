"""Splits what a model writes into content, reasoning and tool calls, while it comes. Pure. ENGINE.md, 11.

One machine for all families. It holds back only what may still become a marker; nothing it is fed makes it raise, and
what fits no rule is content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from worker.chat.arguments import Tools, as_json, escaped, is_text, quoted
from worker.chat.families.family import Call, End, Hide, Row, Rule, Rules, Thought
from worker.chat.objects import Value
from worker.chat.steps import FAILS, FITS, MORE, Attempt, Blank, Exact, Maybe, OneOf

_LEAD = 256  # characters of whitespace before a text that may still turn out to stand before a marker
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
Tries = Sequence[tuple[Rule, Attempt]]


class Kind(Enum):
    """Of a part. CALL begins a call: its text is the tool's name; ARGUMENTS is a fragment of its JSON."""

    CONTENT = auto()
    REASONING = auto()
    CALL = auto()
    ARGUMENTS = auto()


class Part(NamedTuple):
    """A piece of output; `call` is the number of the call it belongs to, `id` that call's id."""

    kind: Kind
    text: str
    call: int = 0
    id: str = ""


class Format(NamedTuple):
    """What a request lets the machine see: rules in content and in reasoning, and tokens that are hidden otherwise."""

    content: Rules
    reasoning: Rules
    shown: Mapping[int, bytes]
    short_ids: bool = False


class Machine:
    """The output of one request. `done`: no more is wanted, as the one call that was asked for is complete."""

    def __init__(self, format: Format, tools: Tools, *, thinking: bool = False, single: bool = False) -> None:
        """thinking: the prompt has opened the reasoning. single: stop after the first call."""
        self.done = False
        self.shown = format.shown
        self._format, self._tools, self._single = format, tools, single
        self._out: list[Part] = []
        self._held = ""
        self._final = False
        self._tries: Tries = ()
        self._index = -1  # of the last call
        self._call = Call()
        self._name = ""  # of the tool that is called
        self._closed = True  # no object around the arguments is open
        self._members = 0  # keys written so far
        self._types: frozenset[str] = frozenset()
        self._raw: list[str] = []  # a value whose type is known when it is whole
        self._value = Value()
        self._ending = Rules(())
        self._kind: Kind | None  # of the text outside calls
        self._open: re.Pattern[str]  # finds what may end it
        self._state: Callable[[], bool]
        self._fresh, self._lead, self._trim, self._first = True, "", False, ""
        self._text(Kind.REASONING if thinking else Kind.CONTENT, trim=thinking)

    def feed(self, text: str) -> list[Part]:
        """The next text of the model → what may be shown now."""
        if self.done:
            return []
        if self._kind is not None and not self._held and not self._fresh and not self._open.search(text):
            return [Part(self._kind, text)]  # nearly always
        self._held += text
        while self._held and self._state():
            pass
        return self._taken()

    def finish(self, *, complete: bool) -> list[Part]:
        """The rest. complete: the model ended its output itself; else a call that is cut off stays open."""
        self._final = True
        while self._held and self._state():
            pass
        if not self._trim and self._lead:
            self._put(Kind.CONTENT, self._lead)
            self._lead = ""
        if complete and not self.done and self._state in (self._key, self._in_value):
            self._put(Kind.ARGUMENTS, self._rest())
        return self._taken()

    # -- what a grammar needs to know ---------------------------------------------------------------------------------

    @property
    def reasoning(self) -> bool:
        """Whether the next text is reasoning, as far as is known."""
        return self._kind is Kind.REASONING

    @property
    def calling(self) -> bool:
        """Whether a call has begun and is not yet over."""
        return self._kind is None

    @property
    def ahead(self) -> str:
        """What has come of a text with the marker before it, if that came just now."""
        return ("" if self._fresh else self._first) + self._held

    @property
    def opened(self) -> tuple[Rule, str] | None:
        """A call whose marker has come but not yet its tool; with the text behind the marker."""
        for rule, attempt in self._tries:
            if attempt.outcome is MORE and 0 <= rule.opener < attempt.step:
                return rule, self._held[attempt.marks[rule.opener] :]
        return None

    # -- states: each takes from `_held`; False if it waits for more --------------------------------------------------

    def _content(self) -> bool:
        return self._outside(self._format.content, Kind.CONTENT)

    def _reasoning(self) -> bool:
        return self._outside(self._format.reasoning, Kind.REASONING)

    def _outside(self, rules: Rules, kind: Kind) -> bool:
        """Text between markers."""
        found = self._scan(rules, lambda text: self._show(kind, text))
        if found is None:
            return False
        rule, attempt = found
        self._lead = ""
        match rule.then:
            case Call():
                self._begin(rule.then, attempt)
            case Thought():
                self._text(Kind.REASONING)
            case End():
                self._text(Kind.CONTENT)
            case Hide():
                pass
        return True

    def _json(self) -> bool:
        """Arguments as the model writes them."""
        end = self._value.end(self._held)
        text = self._held if end < 0 else self._held[:end]
        self._put(Kind.ARGUMENTS, text)
        self._held, self._value.at = self._held[len(text) :], 0
        if end >= 0:
            self._end()
        return end >= 0

    def _key(self) -> bool:
        """Between tagged arguments."""
        tags = self._call.tags
        assert tags is not None
        found = self._fitting()
        if found is None and self._undecided:
            if self._final:
                self._held = ""  # a tag that was cut off
            return False
        if found is None or found[0].then == Hide():  # the end, or what is no tag
            self._put(Kind.ARGUMENTS, self._rest())
            self._end()
            return True
        self._put(Kind.ARGUMENTS, f"{', ' if self._members else '{'}{quoted(found[1].key)}: ")
        self._members += 1
        self._types = self._tools.types(self._name, found[1].key)
        if tags.typed:
            self._types = frozenset({"string"}) if found[1].word == "true" else frozenset()
        if is_text(self._types):
            self._put(Kind.ARGUMENTS, '"')
        self._state = self._in_value
        return True

    def _in_value(self) -> bool:
        """A tagged value, up to its closing tag."""
        text = is_text(self._types)
        found = self._scan(self._ending, self._say if text else self._raw.append)
        if found is None:
            return False
        self._put(Kind.ARGUMENTS, '"' if text else self._whole())
        self._next_key()
        return True

    def _after(self) -> bool:
        """Behind a call: another of the same list, or closing markers."""
        found = self._fitting()
        if found is None and self._undecided:
            if self._final:
                self._held = ""  # a closing marker that was cut off
            return False
        if found is not None and isinstance(found[0].then, Call):
            self._begin(found[0].then, found[1])
        else:
            self._text(Kind.CONTENT)
        return True

    # -- moves --------------------------------------------------------------------------------------------------------

    def _text(self, kind: Kind, *, trim: bool = True) -> None:
        """To content or reasoning; whitespace at its beginning is the markers' if it is trimmed."""
        reasoning = kind is Kind.REASONING
        self._kind, self._tries = kind, ()
        self._state = self._reasoning if reasoning else self._content
        self._open = (self._format.reasoning if reasoning else self._format.content).later
        self._fresh, self._lead, self._trim = True, "", trim

    def _begin(self, call: Call, attempt: Attempt) -> None:
        self._kind = None
        self._call, self._name, self._closed = call, attempt.name, attempt.closed
        self._index += 1
        self._put(Kind.CALL, attempt.name, attempt.id or _new_id(self._format.short_ids))
        if call.tags is not None:
            self._members = 0
            self._ending = Rules((Rule(call.tags.closing, End()),))
            self._next_key()
        elif attempt.arguments is None:
            self._value, self._state = Value(), self._json
        else:
            self._put(Kind.ARGUMENTS, attempt.arguments)
            self._end()

    def _end(self) -> None:
        """The arguments are complete."""
        if self._single:
            self.done, self._held = True, ""
        call, self._state = self._call, self._after
        self._try((Rule(call.more, call),) if call.more else (), Rule(call.closing, Hide()))

    def _next_key(self) -> None:
        tags = self._call.tags
        assert tags is not None
        self._state = self._key
        end: Row = (Blank(), Exact(tags.end))
        self._try((Rule(tags.key, End()),), Rule(end, Hide()))

    def _try(self, rules: Sequence[Rule], last: Rule) -> None:
        names, closed = self._tools.names, self._closed
        self._tries = [(rule, Attempt(rule.steps, names, closed=closed)) for rule in (*rules, last)]

    # -- matching -----------------------------------------------------------------------------------------------------

    def _scan(self, rules: Rules, show: Callable[[str], None]) -> tuple[Rule, Attempt] | None:
        """The next rule that fits, its text taken; what stands before it is shown. None: all that can be is shown."""
        while self._held:
            if not self._tries:
                found = (rules.fresh if self._fresh else rules.later).search(self._held)
                start = found.start() if found else len(self._held)
                if start:
                    text, self._held = self._held[:start], self._held[start:]
                    show(text)
                    continue  # what was shown may decide which rules count
                if not self._final and self._held[-1] == "\n" and self._held.strip("\n") == "":
                    return None
                names = self._tools.names
                tried = [rule for rule in rules.rules if self._fresh or not rule.anchored]
                self._tries = [(rule, Attempt(rule.steps, names)) for rule in tried]
            fits = self._fitting()
            if fits is not None:
                return fits
            if not self._final and self._undecided:
                return None
            self._tries = ()
            text, self._held = self._held[:1], self._held[1:]
            show(text)
        return None

    @property
    def _undecided(self) -> bool:
        return any(attempt.outcome is MORE for _, attempt in self._tries)

    def _fitting(self) -> tuple[Rule, Attempt] | None:
        """The first of the tries that does not fail, if it fits; its text is taken."""
        for rule, attempt in self._tries:
            outcome = attempt.advance(self._held)
            if outcome is MORE and self._final and _passed(rule, attempt):
                outcome = FITS
            if outcome is FITS:
                self._held, self._tries = self._held[attempt.at :], ()
                return rule, attempt
            if outcome is not FAILS and not self._final:
                return None
        return None

    # -- output -------------------------------------------------------------------------------------------------------

    def _show(self, kind: Kind, text: str) -> None:
        if self._fresh:
            text = self._lead + text
            if text.isspace() and len(text) < _LEAD:
                self._lead = text
                return
            self._fresh, self._lead = False, ""
            text = self._first = text.lstrip() if self._trim else text
        self._put(kind, text)

    def _say(self, text: str) -> None:
        self._put(Kind.ARGUMENTS, escaped(text))

    def _whole(self) -> str:
        text = as_json("".join(self._raw), self._types)
        self._raw.clear()
        return text

    def _rest(self) -> str:
        """What makes the arguments of a tagged call valid JSON."""
        if self._state == self._in_value:
            return ('"' if is_text(self._types) else self._whole()) + "}"
        return "}" if self._members else "{}"

    def _put(self, kind: Kind, text: str, id: str = "") -> None:
        if not text:
            return
        call = self._index if kind in (Kind.CALL, Kind.ARGUMENTS) else 0
        if self._out and kind is not Kind.CALL and self._out[-1].kind is kind:
            text = self._out.pop().text + text
        self._out.append(Part(kind, text, call, id))

    def _taken(self) -> list[Part]:
        out = self._out
        if out:
            self._out = []
        return out


def _passed(rule: Rule, attempt: Attempt) -> bool:
    """Whether an ending was read, and only what need not be taken is missing behind it."""
    rest = rule.steps[attempt.step :]
    optional = (isinstance(step, Blank | Maybe) or (isinstance(step, OneOf) and step.look) for step in rest)
    return isinstance(rule.then, End) and attempt.step > 0 and all(optional)


def _new_id(short: bool) -> str:
    if short:  # the templates of this family accept no other
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(9))
    return f"call_{os.urandom(12).hex()}"
