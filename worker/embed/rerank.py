"""The prompt in which a reranker sees a query and a document. ENGINE.md, 16."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.vocabulary import Vocabulary

_PLACES = re.compile(r"\{(query|document)\}")


class Pairs:
    """Makes the token ids of a query with a document: as the file's template `rerank` says, else as encoders do it."""

    def __init__(self, vocabulary: Vocabulary, template: str) -> None:
        """`template` has the places {query} and {document}; "" for none."""
        self._vocabulary, self._template = vocabulary, template
        words = sorted(vocabulary.control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, words))) if words else None

    def tokens(self, query: str, document: str, limit: int | None = None) -> list[int]:
        """The whole prompt; with a limit the document is cut at its end until it fits, at most to nothing."""
        make = self._templated if self._template else self._plain
        found = make(query, document)
        if limit is None or len(found) <= limit:
            return found
        return self._cut(make, query, document, len(found), limit)

    def _cut(
        self, make: Callable[[str, str], list[int]], query: str, document: str, length: int, limit: int
    ) -> list[int]:
        """Tokens may join anew where the text was cut, so it may take more than one try."""
        words = self._vocabulary.tokenize(document, special=False)
        keep = len(words)
        while True:
            keep = max(0, keep - (length - limit))
            found = make(query, self._vocabulary.detokenize(words[:keep]))
            if (length := len(found)) <= limit or keep == 0:
                return found

    def _plain(self, query: str, document: str) -> list[int]:
        """BOS query EOS SEP document EOS, of which the vocabulary's flags say what there is.

        A WordPiece text ends with SEP, also where an older file has no flag that says so.
        """
        vocabulary = self._vocabulary
        end = vocabulary.eos if vocabulary.eos >= 0 else vocabulary.sep
        ends = [end] if vocabulary.adds_eos and end >= 0 else []
        closes = ends or ([vocabulary.sep] if vocabulary.adds_sep and vocabulary.word_piece else [])
        return [
            *([vocabulary.bos] if vocabulary.adds_bos else []),
            *vocabulary.tokenize(query, special=False),
            *ends,
            *([vocabulary.sep] if vocabulary.adds_sep else []),
            *vocabulary.tokenize(document, special=False),
            *closes,
        ]

    def _templated(self, query: str, document: str) -> list[int]:
        """Both are put in at once, so that one that spells a place is no place; nor are their control tokens meant."""
        values = {"query": query, "document": document}
        if self._control is None or not any(self._control.search(text) for text in values.values()):
            whole = _PLACES.sub(lambda found: values[found[1]], self._template)
            return self._vocabulary.tokenize(whole, special=True)
        parts = _PLACES.split(self._template)  # the template's text and names of places in turn
        tokens: list[int] = []
        for index, part in enumerate(parts):
            theirs = index % 2 == 1
            tokens += self._vocabulary.tokenize(values[part] if theirs else part, special=not theirs)
        return tokens
