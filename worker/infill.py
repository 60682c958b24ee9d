"""The prompt of a hole between prefix and suffix, for models with FIM (fill-in-the-middle) tokens. API.md, 7.1.

    [BOS] [REPO]project [FILE]name extra … [FILE]name [PRE]prefix prompt [SUF]suffix [MID]

REPO and FILE only where the vocabulary has them; what is long is cut at the ends that are far from the hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.failure import RequestError
from worker.protocol import Infill

if TYPE_CHECKING:
    from worker.vocabulary import Vocabulary

_SNIPPET = "\n\n--- snippet ---\n\n"  # between extra texts where the vocabulary has no FILE token
_PROJECT, _FILE = "project\n", "file\n"  # names that a request does not give


@dataclass(frozen=True, slots=True)
class Fim:
    """Token ids, -1 for those that a vocabulary does not have."""

    pre: int = -1
    suf: int = -1
    mid: int = -1
    repo: int = -1
    file: int = -1

    @property
    def complete(self) -> bool:
        """Whether there is what infill needs."""
        return min(self.pre, self.suf, self.mid) >= 0


def tokens(infill: Infill, vocabulary: Vocabulary, n_ctx: int, n_batch: int) -> list[int]:
    """The prompt's token ids, fewer than `n_ctx`. Raises RequestError: unsupported_feature, context_length_exceeded.

    Prefix and suffix share what one batch holds, three to one; extra texts get what is left of the context beside
    the room for the reply, the last ones first.
    """
    fim = vocabulary.fim
    if not fim.complete:
        text = "this model's vocabulary has no tokens for infill"
        raise RequestError("unsupported_feature", text, feature="infill")
    start = [vocabulary.bos] if vocabulary.adds_bos else []
    prompt = vocabulary.tokenize(infill.prompt, special=False)
    name = [fim.file, *vocabulary.tokenize(_FILE, special=False)] if fim.file >= 0 else []
    marks = len(start) + len(name) + 3
    room = _room(infill.room, n_ctx) - marks - len(prompt)
    if room < 0:
        total = marks + len(prompt)
        text = f"the prompt ({total} tokens) and its reply exceed the available context size ({n_ctx} tokens)"
        raise RequestError("context_length_exceeded", text, n_prompt_tokens=total, n_ctx=n_ctx)
    prefix, suffix = _around(infill, vocabulary, min(room, n_batch))
    room -= len(prefix) + len(suffix)
    extra = _extra(infill, vocabulary, fim)
    kept = extra[max(0, len(extra) - room) :]
    return [*start, *kept, *name, fim.pre, *prefix, *prompt, fim.suf, *suffix, fim.mid]


def _room(wanted: int, n_ctx: int) -> int:
    """Tokens that the prompt may have; at most half of the context is kept for a reply, a quarter if nobody says."""
    reply = n_ctx // 4 if wanted < 0 else min(wanted, n_ctx // 2)
    return n_ctx - 1 - reply


def _around(infill: Infill, vocabulary: Vocabulary, room: int) -> tuple[list[int], list[int]]:
    """The end of the prefix and the beginning of the suffix; what one does not need the other may have."""
    prefix = vocabulary.tokenize(infill.prefix, special=False)
    suffix = vocabulary.tokenize(infill.suffix, special=False)
    before = min(len(prefix), max(room * 3 // 4, room - len(suffix)))
    after = min(len(suffix), room - before)
    return prefix[len(prefix) - before :], suffix[:after]


def _extra(infill: Infill, vocabulary: Vocabulary, fim: Fim) -> list[int]:
    found: list[int] = []
    if fim.repo >= 0 and infill.extra:
        found += [fim.repo, *vocabulary.tokenize(_PROJECT, special=False)]
    for chunk in infill.extra:
        if fim.file >= 0:
            found += [fim.file, *vocabulary.tokenize(f"{chunk.filename or 'tmp'}\n", special=False)]
        else:
            found += vocabulary.tokenize(_SNIPPET, special=False)
        found += vocabulary.tokenize(chunk.text, special=False)
    return found
