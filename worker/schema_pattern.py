"""The `pattern` of a JSON schema → GBNF: literals, sets, groups, alternatives and repetitions."""

from __future__ import annotations

import json
import re

from worker.gbnf import MAX_DEPTH, MAX_REPETITION, GrammarError

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": " "}
_ANY = r'[^"\\\x00-\x1f\x7f]'
_CONTROL = r"\x00-\x1f\x7f"
_BRACE = re.compile(r"\{([0-9]{1,4})(,)?([0-9]{1,4})?\}")
_SPECIAL = "^$\\.|?*+()[]{}"


def quoted(text: str) -> str:
    """A literal of GBNF."""
    spelled = (_ESCAPES.get(char) or (f"\\x{ord(char):02x}" if ord(char) < 32 else char) for char in text)
    return f'"{"".join(spelled)}"'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def translate(pattern: object, path: str) -> str:
    """What stands between the quotes of a JSON string that matches. Raises GrammarError for what is not supported."""
    if not isinstance(pattern, str):
        raise GrammarError(f"schema, at #{path}: expected a string")
    body = pattern.removeprefix("^")
    start = "" if body != pattern else f"{_ANY}* "
    plain = body.removesuffix("$")
    ends = plain != body and (len(plain) - len(plain.rstrip("\\"))) % 2 == 0  # an escaped $ is a character
    return start + _Reader(body[:-1] if ends else body, path).all() + ("" if ends else f" {_ANY}*")


class _Reader:
    def __init__(self, text: str, path: str) -> None:
        self._text, self._path, self._at, self._depth = text, path, 0, 0

    def all(self) -> str:
        found = self._alternatives()
        if self._at < len(self._text):
            raise self._error("a ) too many")
        return found

    def _alternatives(self) -> str:
        options = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            options.append(self._sequence())
        return f"({' | '.join(options)})"

    def _sequence(self) -> str:
        parts = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._atom() + self._repetition())
        return " ".join(parts) or '""'

    def _atom(self) -> str:
        char = self._take()
        match char:
            case "(":
                return self._group()
            case "[":
                return self._set()
            case ".":
                return _ANY
            case "\\":
                return self._escape()
        if char in _SPECIAL:
            raise self._error(f"{char} is not supported here")
        return self._literal(char)

    def _group(self) -> str:
        self._depth += 1
        if self._depth > MAX_DEPTH // 4:
            raise self._error("too many brackets")
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._next() == "?":
            raise self._error("only (…) and (?:…) are supported")
        found = self._alternatives()
        if self._take() != ")":
            raise self._error("a ) is missing")
        self._depth -= 1
        return found

    def _escape(self) -> str:
        char = self._take()
        if char in _CLASSES:
            return f"[{_CLASSES[char]}]"
        if not char or char.isalnum():
            raise self._error(f"\\{char} is not supported")
        return self._literal(char)

    def _set(self) -> str:
        negated = self._next() == "^"
        self._at += negated
        found = ""
        while (char := self._take()) != "]":
            if not char:
                raise self._error("a ] is missing")
            if char == "\\":
                char = self._take()
                if char in _CLASSES:
                    found += _CLASSES[char]
                    continue
                if not char or char.isalnum():
                    raise self._error(f"\\{char} is not supported")
                found += f"\\x{ord(char):02x}" if ord(char) < 128 else char
            else:
                found += char if char == "-" or ord(char) >= 128 or char.isalnum() else f"\\x{ord(char):02x}"
            if char in '"\\' and not negated:
                raise self._error('" and \\ are not supported in a set')
        if not found and not negated:
            raise self._error("a set without characters")
        return f'[^{found}"\\\\{_CONTROL}]' if negated else f"[{found}]"

    def _repetition(self) -> str:
        char = self._next()
        if char in ("*", "+", "?") and char:
            self._at += 1
            found = char
        elif char == "{" and (brace := _BRACE.match(self._text, self._at)):
            low, high = int(brace[1]), int(brace[3] or brace[1])
            if not low <= high <= MAX_REPETITION:
                raise self._error(f"at most {MAX_REPETITION} repetitions are supported")
            self._at = brace.end()
            found = brace[0]
        else:
            return ""
        if self._next() == "?":
            self._at += 1  # lazy or not, the same texts match
        return found

    def _literal(self, char: str) -> str:
        return quoted(json.dumps(char, ensure_ascii=False)[1:-1])

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._next()
        self._at += 1
        return char

    def _error(self, reason: str) -> GrammarError:
        return GrammarError(f"schema, at #{self._path}: {reason}")
