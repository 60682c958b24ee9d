"""Grammars that start at a word or a token: llama-server's `grammar_lazy`, `grammar_triggers`, `preserved_tokens`."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from proxy.dialects.fields import bad, typed
from proxy.errors import BadRequest, Unsupported

_MAX = 64  # triggers, and preserved tokens
_TOKEN, _WORD, *_PATTERNS = range(4)  # the numbers of llama-server's kinds
_NAMES = {"token": _TOKEN, "word": _WORD, "pattern": 2, "pattern_full": 3}


class Lazy(NamedTuple):
    """Words and token ids that start the grammar; none: it starts at once. Spellings of tokens to be shown."""

    triggers: tuple[str | int, ...]
    preserved: tuple[str, ...]


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    type: int | str
    value: str = ""
    token: int | None = None


class LazyFields(msgspec.Struct, frozen=True, kw_only=True):
    grammar_lazy: bool = False
    grammar_triggers: Annotated[list[Trigger], Meta(max_length=_MAX)] = []
    preserved_tokens: Annotated[list[str], Meta(max_length=_MAX)] = []


def triggered(body: dict[str, Any], grammar: str) -> Lazy:
    """Raises BadRequest; Unsupported for patterns, as no regular expression is ever matched against an output."""
    fields = typed(body, LazyFields)
    preserved = tuple(text for text in fields.preserved_tokens if text)
    if not fields.grammar_lazy:
        return Lazy((), preserved)
    if not grammar:
        raise BadRequest("grammar_lazy: needs a grammar", "grammar_lazy")
    if not fields.grammar_triggers:
        raise BadRequest("grammar_lazy: needs grammar_triggers", "grammar_triggers", "missing_field")
    return Lazy(tuple(_trigger(each, at) for at, each in enumerate(fields.grammar_triggers)), preserved)


def _trigger(found: Trigger, at: int) -> str | int:
    kind = _NAMES.get(found.type) if isinstance(found.type, str) else found.type
    if kind in _PATTERNS:
        raise Unsupported("a pattern as grammar trigger", f"grammar_triggers[{at}].type")
    if kind == _TOKEN and found.token is not None:
        return found.token
    if kind in (_TOKEN, _WORD) and found.value:
        return found.value
    if kind in (_TOKEN, _WORD):
        raise bad(("grammar_triggers", at, "value"), "a text that is not empty", found.value)
    raise bad(("grammar_triggers", at, "type"), "0 (token) or 1 (word)", found.type)
