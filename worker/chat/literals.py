"""Steps that read whole arguments in another syntax than JSON, and make JSON of them. Pure."""

from __future__ import annotations

import ast
import json
import re
import warnings
from dataclasses import dataclass

from worker.chat.objects import is_object
from worker.chat.steps import FAILS, FITS, MORE, Attempt, Outcome

_PYTHON = 4096  # characters of a call in Python's syntax, which is held until it ends
_BARE = 65536  # the same for one with bare keys
_BARE_KEY = re.compile(r"([^\W\d][\w.$-]*)(?=\s*:)")


@dataclass(frozen=True, slots=True)
class PythonArguments:
    """`k="v", n=1)`: the rest of a call in Python's syntax, held until it ends."""

    def read(self, attempt: Attempt, text: str) -> Outcome:
        end = text.find(")", attempt.at if attempt.reader is None else attempt.reader)
        while end >= 0 and end - attempt.at < _PYTHON:
            found = _keywords(text[attempt.at : end])
            if found is not None:
                attempt.arguments, attempt.at = found, end + 1
                return FITS
            end = text.find(")", end + 1)
        attempt.reader = len(text)
        return MORE if len(text) - attempt.at < _PYTHON else FAILS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with arguments")

    @property
    def spellings(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class BareArguments:
    """`{city:<|"|>Paris<|"|>,days:2}`: JSON with bare keys and its own quotes, held until it ends."""

    quote: str

    def read(self, attempt: Attempt, text: str) -> Outcome:
        at, depth, within = attempt.reader or (attempt.at, 0, False)
        if at == attempt.at and not text.startswith("{", at):
            return FAILS if len(text) > at else MORE
        structure = re.compile(f"{re.escape(self.quote)}|[{{}}\\[\\]]")
        while found := structure.search(text, at):
            at = found.end()
            if found[0] == self.quote:
                within = not within
            elif not within:
                depth += 1 if found[0] in "{[" else -1
                if depth == 0:
                    attempt.arguments = _with_json_quotes(text[attempt.at : at], self.quote)
                    attempt.at = at
                    return FITS if attempt.arguments is not None else FAILS
        at = max(at, len(text) - len(self.quote) + 1)  # a quote may have come in part
        attempt.reader = (at, depth, within)
        return MORE if at - attempt.at < _BARE else FAILS

    def beginnings(self) -> str:
        raise AssertionError("no rule begins with arguments")

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.quote,)


def _with_json_quotes(text: str, quote: str) -> str | None:
    """The same in JSON; None if it is none then."""
    parts = text.split(quote)  # what is bare and what is quoted in turn
    plain = [_BARE_KEY.sub(r'"\1"', part) if at % 2 == 0 else json.dumps(part, ensure_ascii=False)
             for at, part in enumerate(parts)]  # fmt: skip
    found = "".join(plain)
    return found if is_object(found) else None


def _keywords(text: str) -> str | None:
    """Keyword arguments with literal values as a JSON object; None if they are not (yet) that."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            return None
        values = {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
        return None if "" in values else json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
