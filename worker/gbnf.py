"""A light check of GBNF before llama.cpp sees it: what would end the process, and reasons with a line. ENGINE.md, 8.

llama.cpp says why it refuses a grammar to stderr only; deep brackets overflow its stack, and `{5,2}` never ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from worker.grammar import GrammarError

MAX_BYTES = 64 * 1024
MAX_RULES = 200
MAX_REPETITION = 2000  # llama.cpp's own bound
MAX_DEPTH = 64
_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r]+|\#[^\n]*)|(?P<newline>\n)|(?P<define>::=)|(?P<name>[A-Za-z0-9-]+)
    |(?P<string>"(?:\\.|[^"\\])*")|(?P<set>\[(?:\\.|[^\]\\])*\])|(?P<token>!?<[^>\n]*>)
    |(?P<brace>\{[^}\n]*\})|(?P<open>\()|(?P<close>\))|(?P<sign>[|*+?.])""",
    re.VERBOSE | re.DOTALL,
)
_BRACE = re.compile(r"\{\s*([0-9]{1,9})\s*(,)?\s*([0-9]{1,9})?\s*\}")
_UNFINISHED = {'"': "a string that does not end", "[": "a set of characters that does not end", "{": "unfinished {"}


def check(text: str) -> None:
    """Raises GrammarError."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise GrammarError(f"larger than {MAX_BYTES} bytes")
    defined: dict[str, int] = {}
    used: dict[str, int] = {}
    depth, previous = 0, ("", 0)
    for kind, value, line in _tokens(text):
        if kind == "define":
            if not previous[0]:
                raise GrammarError(f"line {line}: ::= without the name of a rule")
            defined.setdefault(previous[0], line)
            if used.get(previous[0]) == previous[1]:
                del used[previous[0]]
        elif kind == "name":
            used.setdefault(value, line)
        elif kind == "brace":
            _check_brace(value, line)
        depth += (kind == "open") - (kind == "close")
        if not 0 <= depth <= MAX_DEPTH:
            raise GrammarError(
                f"line {line}: {'a ) too many' if depth < 0 else f'more than {MAX_DEPTH} brackets deep'}"
            )
        previous = (value, line) if kind == "name" else ("", 0)
    if depth:
        raise GrammarError("a ) is missing")
    for name, line in used.items():
        if name not in defined:
            raise GrammarError(f"line {line}: there is no rule {name}")
    if "root" not in defined:
        raise GrammarError("there is no rule root")
    if len(defined) > MAX_RULES:
        raise GrammarError(f"more than {MAX_RULES} rules")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of each token but white space and comments."""
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            what = _UNFINISHED.get(text[at], f"unexpected {text[at]!r}")
            raise GrammarError(f"line {line}: {what}")
        kind = found.lastgroup or ""
        if kind not in ("skip", "newline"):
            yield kind, found[0], line
        line += found[0].count("\n")
        at = found.end()


def _check_brace(text: str, line: int) -> None:
    found = _BRACE.fullmatch(text)
    if found is None:
        raise GrammarError(f"line {line}: expected {{n}}, {{n,}} or {{n,m}}, got {text[:40]}")
    low = int(found[1])
    high = int(found[3]) if found[3] else low
    if not low <= high <= MAX_REPETITION:
        raise GrammarError(f"line {line}: expected two numbers in order, at most {MAX_REPETITION}, got {text}")
