"""What requests demand of the form of their replies, checked, compiled and put into a plan. ENGINE.md, 8, 11.

Runs in the I/O thread. What is compiled is kept, as clients send the same tools and schemas again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from worker import json_schema
from worker.chat import writing
from worker.chat.families.family import Rule
from worker.chat.machine import Machine
from worker.chat.parser import Parser
from worker.failure import RequestError
from worker.grammar import Compiled, GrammarError
from worker.guide import Guide, Plan
from worker.native_grammar import Gbnf
from worker.protocol import Chat, Generate
from worker.trigger import Triggers
from worker.vocabulary import Vocabulary
from worker.watch import Watch

_KEPT = 64  # compiled grammars of each kind
T = TypeVar("T")


class Guides:
    """Of one model. Raises RequestError: invalid_grammar, unsupported_feature."""

    def __init__(self, vocabulary: Vocabulary, parser: Parser) -> None:
        self._vocabulary, self._parser = vocabulary, parser
        self._gbnf = lru_cache(_KEPT)(lambda text: Gbnf(text, vocabulary))
        self._lark = lru_cache(_KEPT)(self._new_lark)
        self._message = lru_cache(_KEPT)(self._new_message)
        self._bodies = lru_cache(_KEPT)(self._new_bodies)

    def plan(self, request: Generate) -> Plan | None:
        """None if nothing binds the reply."""
        answer = self._answer(request)
        bodies = self._calls(request) if self._parser.splits_calls(request) and not self._only_answer(request) else {}
        budget = request.reasoning_budget
        if not (answer or bodies or budget >= 0 or request.reasoning_control):
            return None
        opening, closing = self._parser.thought
        tokens = self._vocabulary.marker
        may_open = answer is not None and self._may_reason(request)
        return Plan(
            answer,
            bodies,
            opening=tokens(opening) if may_open else (),
            closing=tokens(closing),
            message=tuple(self._vocabulary.tokenize(request.reasoning_message, special=False)),
            budget=budget,
            triggers=self._triggers(request) if request.grammar_triggers else None,
        )

    def guide(self, plan: Plan, request: Generate, machine: Machine | None, tail: Callable[[], str]) -> Guide:
        """For one choice of the request; `machine` splits its output, `tail` gives the end of the prompt."""
        watch = None
        if machine is None or not self._parser.splits_reasoning(request):
            found = self._parser.watching(request, tail)
            watch = Watch(found) if found is not None else None
        return Guide(plan, machine, watch)

    # -- kinds --------------------------------------------------------------------------------------------------------

    def _answer(self, request: Generate) -> Compiled | None:
        if request.must_call:
            return self._forced(request)
        if request.json_schema:
            return _checked("json_schema", lambda: self._of_schema(request))
        if request.grammar:
            return _checked("grammar", lambda: self._gbnf(request.grammar))
        return None

    def _of_schema(self, request: Generate) -> Compiled:
        schema, chat = json_schema.parsed(request.json_schema), request.prompt
        begins = isinstance(chat, Chat) and not chat.continue_final
        family, lead = self._parser.family if begins else None, self._may_reason(request)
        try:
            return self._lark(writing.answer(family, schema, self._vocabulary.hidden, lead=lead))
        except GrammarError as error:
            if "schema, at " in str(error):
                raise
            raise GrammarError(f"schema, at #{self._place(schema)}: {error}") from None

    def _place(self, schema: Any) -> str:
        """The deepest part that is refused alone."""
        whole = json_schema.prepared(schema)
        shared = {key: whole[key] for key in ("$defs", "definitions") if key in whole}
        for path, part in json_schema.parts(whole):
            try:
                self._lark(f"start: %json {json_schema.dumped({**shared, **part})}")
            except GrammarError:
                return path
        return ""

    def _forced(self, request: Generate) -> Compiled:
        functions = _functions(request, only=request.must_call)
        if self._parser.family is None or not writing.writable(self._parser.family):
            text = "this model's chat template has no form for calls of tools, so none can be demanded"
            raise RequestError("unsupported_feature", text, feature="tool_choice")
        many = self._parser.many(request)
        lead = self._may_reason(request)
        return _checked("tools", lambda: self._message(json_schema.dumped(functions), many, lead))

    def _only_answer(self, request: Generate) -> bool:
        """Whether no call can come but those of the answer; some models call in the midst of their reasoning."""
        family = self._parser.family
        inner = family is not None and family.calls_end_thought
        return bool(request.json_schema or request.grammar or (request.must_call and not inner))

    def _calls(self, request: Generate) -> dict[Rule, Compiled]:
        """Tools never break a plain chat: those that cannot be compiled bind nothing."""
        try:
            return self._bodies(json_schema.dumped(_functions(request, only=request.must_call)))
        except GrammarError:
            return {}

    def _new_message(self, functions: str, many: bool, lead: bool) -> Compiled:
        assert self._parser.family is not None
        found = json_schema.parsed(functions)
        hidden = self._vocabulary.hidden
        return self._new_lark(writing.message(self._parser.family, found, hidden, many=many, lead=lead))

    def _new_bodies(self, functions: str) -> dict[Rule, Compiled]:
        assert self._parser.family is not None
        found = json_schema.parsed(functions)
        texts = writing.bodies(self._parser.family, found, self._vocabulary.hidden)
        return {rule: self._new_lark(text) for rule, text in texts.items()}

    # -- parts --------------------------------------------------------------------------------------------------------

    def _may_reason(self, request: Generate) -> bool:
        chat = request.prompt
        wanted = not isinstance(chat, Chat) or chat.template_kwargs.get("enable_thinking") is not False
        return wanted and isinstance(chat, Chat) and bool(self._parser.thought[0])

    def _triggers(self, request: Generate) -> Triggers:
        words = tuple(each for each in request.grammar_triggers if isinstance(each, str))
        tokens = [each for each in request.grammar_triggers if isinstance(each, int)]
        for token in tokens:
            if not 0 <= token < self._vocabulary.size:
                text = f"grammar_triggers: token {token} is not in the vocabulary (0 to {self._vocabulary.size - 1})"
                raise RequestError("invalid_value", text, param="grammar_triggers")
        spelled = {token: self._vocabulary.spelled(token).decode("utf-8", "replace") for token in tokens}
        return Triggers(words, spelled)

    def _new_lark(self, text: str) -> Compiled:
        from worker import guidance  # 40 ms, and 0.1 s for its table: only models that need it pay

        return guidance.Lark(text, guidance.masks(self._vocabulary))


def _functions(request: Generate, only: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The declared functions, without what a grammar has no use for."""
    assert isinstance(request.prompt, Chat)
    found = [tool["function"] for tool in request.prompt.tools or () if isinstance(tool.get("function"), dict)]
    return [{"name": each["name"], "parameters": each.get("parameters")} for each in found
            if each.get("name") and (not only or each["name"] in only)]  # fmt: skip


def _checked(field: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except GrammarError as error:
        raise RequestError("invalid_grammar", f"{field}: {error}", param=field) from None
