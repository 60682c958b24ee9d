"""What binds the tokens of one reply: a grammar of its answer or of a call, the end of its reasoning. ENGINE.md, 8.

    free     nothing binds: reasoning, and text that no grammar was asked for
    either   the grammar binds, or else the model opens its reasoning
    bound    the grammar binds
    forced   the next tokens are given: the rest of a marker, or the end of reasoning

It follows the machine that splits the output, so that a grammar for the answer begins where the reasoning ends, and
one for a call where the call's marker is complete. Text that no marker precedes is never bound by a call's grammar.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.chat.families.family import Rule
from worker.chat.machine import Machine
from worker.grammar import Compiled, Grammar, Pool, dead_end
from worker.trigger import Triggers
from worker.watch import Watch


@dataclass(frozen=True)
class Plan:
    """What a request asks for; its choices share it. Tokens are ids.

    answer: binds what is not reasoning. calls: what may follow the marker of a call, by its rule.
    opening: with these tokens the model may begin to reason. closing, message: they end reasoning when `budget` tokens
    of it are spent; -1: never. triggers: `answer` binds only from the first of these on.
    """

    answer: Compiled | None = None
    calls: Mapping[Rule, Compiled] = field(default_factory=dict)
    opening: tuple[int, ...] = ()
    closing: tuple[int, ...] = ()
    message: tuple[int, ...] = ()
    budget: int = -1
    triggers: Triggers | None = None


class Guide:
    """Of one reply. See worker.grammar.Rules for `allows`, `restrict` and `accept`: of what binds now."""

    def __init__(self, plan: Plan, machine: Machine | None = None, watch: Watch | None = None) -> None:
        """machine: splits the reply, and is fed by it; `watch`: the same for what the reply does not split itself."""
        self._plan, self._watch = plan, watch
        self._machine = watch.machine if watch else machine
        self._triggers = plan.triggers.new() if plan.triggers else None
        self._grammar: Grammar | None = None
        self._forced: deque[int] = deque()
        self._opened = 0 if plan.opening else -1  # tokens of the opening that have come; -1: it will not come
        self._reasoning = self._machine is not None and self._machine.reasoning
        self._spent = 0  # tokens of reasoning
        self._closing = self._end_asked = False
        self._in_call = self._given_up = self._failed = False
        self._waits = plan.answer is not None and self._triggers is None  # the grammar, for the reasoning's end
        if self._reasoning:
            self._opened = -1
            self._end_if_spent(whole=True)
        elif plan.answer is not None and self._triggers is None:
            self._grammar, self._waits = plan.answer.new(), False

    # -- for the sampler ----------------------------------------------------------------------------------------------

    @property
    def binds(self) -> bool:
        """Whether the next token must obey."""
        return self._grammar is not None

    def forced(self) -> int | None:
        """The next token, if it is not to be sampled. Raises RequestError if no token can be right."""
        if self._failed:
            raise dead_end()
        return self._forced.popleft() if self._forced else None

    def allows(self, token: int) -> bool:
        assert self._grammar is not None
        return self._grammar.allows(token) or self._opens(token)

    def restrict(self, pool: Pool) -> None:
        assert self._grammar is not None
        self._grammar.restrict(pool)

    def accept(self, token: int) -> None:
        assert self._grammar is not None
        opens = self._opens(token)
        if opens and not self._grammar.allows(token):
            self._forced.extend(self._plan.opening[self._opened + 1 :])
            self._unbind()
            self._waits = True
            return
        self._grammar.accept(token)
        self._opened = self._opened + 1 if opens else -1  # both begin alike, as where each message names its channel

    # -- for the reply ------------------------------------------------------------------------------------------------

    def took(self, token: int, data: bytes, *, whole: bool) -> None:
        """The reply, and its machine, have a token. whole: its text does not end within a character."""
        if self._watch is not None:
            self._watch.feed(token, data)
        if self._triggers is not None and self._grammar is None:
            self._look(token, data)
        machine = self._machine
        if machine is None or self._forced:
            return
        was, self._reasoning = self._reasoning, machine.reasoning
        if self._in_call:
            if self._grammar is not None and self._grammar.complete:
                self._unbind()
        elif self._reasoning:
            self._spent += was
            self._end_if_spent(whole=whole)
        else:
            self._closing = False
            if self._waits:
                self._answer(machine)
        if self._plan.calls and self._grammar is None:
            self._bind_call(machine)

    def end_reasoning(self) -> None:
        """The reasoning that is under way ends as soon as its text is whole."""
        self._end_asked = True
        self._end_if_spent(whole=False)

    def close(self) -> None:
        self._unbind()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _opens(self, token: int) -> bool:
        return 0 <= self._opened < len(self._plan.opening) and token == self._plan.opening[self._opened]

    def _end_if_spent(self, *, whole: bool) -> None:
        plan = self._plan
        spent = 0 <= plan.budget <= self._spent
        if whole and plan.closing and self._reasoning and not self._closing and (spent or self._end_asked):
            self._forced.extend((*(plan.message if spent else ()), *plan.closing))
            self._closing, self._end_asked = True, False

    def _answer(self, machine: Machine) -> None:
        """The reasoning has ended: with its marker, or because the model calls without one."""
        self._waits = False
        if not machine.calling:
            assert self._plan.answer is not None
            self._bind(self._plan.answer, machine.ahead.lstrip())
            self._failed = self._grammar is None

    def _bind(self, compiled: Compiled, text: str) -> None:
        """From here on; `text` has come already. Nothing binds if it does not fit."""
        self._grammar = compiled.new()
        self._opened = -1
        if text and not self._grammar.read(text):
            self._unbind()

    def _bind_call(self, machine: Machine) -> None:
        found = machine.opened
        if found is None:
            self._given_up = False
        elif not self._given_up and (compiled := self._plan.calls.get(found[0])) is not None:
            self._bind(compiled, found[1])
            self._in_call = self._grammar is not None
            self._given_up = not self._in_call
            self._waits = self._waits and not self._in_call

    def _look(self, token: int, data: bytes) -> None:
        """For a trigger; the grammar reads it, too."""
        assert self._triggers is not None
        assert self._plan.answer is not None
        text = self._triggers.feed(token, data)
        if text is not None:
            self._bind(self._plan.answer, text)

    def _unbind(self) -> None:
        if self._grammar is not None:
            self._grammar.close()
        self._grammar, self._in_call, self._opened = None, False, -1
