"""Writing grammars in llguidance's dialect of Lark. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from worker.json_schema import dumped, parsed, prepared

Hidden = Callable[[Iterable[str]], Mapping[int, bytes]]  # vocabulary.hidden: tokens that are no text, by spelling
_LEAD = r"/[ \t\r\n]{1,8}/"
_GAP = r"/[ \n]{1,8}/"  # between two parts of a call; some indent by four
_TEXT = r"/(?s:.*)/"


class Writer:
    """The rules of one grammar. Methods give expressions that may stand in another rule."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._rules: dict[str, str] = {}  # by body: what is said twice is one rule
        self._count = 0

    def text(self, start: str) -> str:
        """The grammar."""
        return "\n".join([f"start: {start}", *(f"{name}: {body}" for body, name in self._rules.items())])

    # -- parts --------------------------------------------------------------------------------------------------------

    def rule(self, body: str, attributes: str = "") -> str:
        key = f"{attributes}{body}"
        if key not in self._rules:
            self._count += 1
            self._rules[key] = f"r{self._count}"
        return self._rules[key]

    def literal(self, text: str) -> str:
        """A text with markers in it: those which are tokens of their own, not text, are named as such."""
        return " ".join(_quoted(part) if isinstance(part, str) else f"<[{part}]>" for part in self._split(text)) or '""'

    def until(self, marker: str) -> str:
        """Any text up to this marker, and the marker."""
        first, *rest = self._split(marker)
        after = " ".join(_quoted(part) if isinstance(part, str) else f"<[{part}]>" for part in rest)
        if isinstance(first, int):
            return f"{self.lexeme(_TEXT)} <[{first}]> {after}".rstrip()
        self._count += 1
        name = f"r{self._count}"
        self._rules[f"{_TEXT} // {name}"] = f"{name}[suffix={_quoted(first)}]"
        return f"{name} {after}".rstrip()

    def lexeme(self, pattern: str) -> str:
        """A regular expression in slashes."""
        return self.rule(pattern)

    def json(self, schema: Any) -> str:
        """A JSON value that fits a schema. Raises GrammarError."""
        return self.rule(f"%json {dumped(prepared(schema))}")

    @property
    def gap(self) -> str:
        """White space that may be there."""
        return f"{self.lexeme(_GAP)}?"

    @property
    def lead(self) -> str:
        """White space before the first word of an answer."""
        return f"{self.lexeme(_LEAD)}?"

    def _split(self, text: str) -> Sequence[str | int]:
        """The text in order, spellings of hidden tokens as ids."""
        parts: list[str | int] = [text] if text else []
        tokens = sorted(self._hidden((text,)).items(), key=lambda item: -len(item[1]))
        for token, spelling in tokens:
            parts = [piece for part in parts for piece in _cut(part, spelling.decode(), token)]
        return parts


def any_of(options: Sequence[str]) -> str:
    options = list(dict.fromkeys(options))
    return options[0] if len(options) == 1 else f"({' | '.join(options)})"


def of_schema(text: str) -> str:
    """The grammar of a schema's JSON text. Raises GrammarError."""
    writer = Writer(lambda _: {})
    return writer.text(writer.json(parsed(text)))


def _cut(part: str | int, spelling: str, token: int) -> list[str | int]:
    if isinstance(part, int) or spelling not in part:
        return [part]
    found: list[str | int] = []
    for piece in part.split(spelling):
        found += [token, piece]
    return [piece for piece in found[1:] if piece != ""]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
