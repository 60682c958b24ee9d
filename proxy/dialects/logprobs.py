"""The probabilities of a reply's tokens in OpenAI's two shapes. API.md, 4.2 and 4.3."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.dialects.fields import Fields
from proxy.errors import BadRequest
from worker.protocol import Alternative, Probability

MAX_TOP = 20
_LEAST = -3.4028235e38  # JSON has no −∞
Top = Annotated[int, Meta(ge=0, le=MAX_TOP)]


class ChatLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat says about them; without a number it is the most there are."""

    logprobs: bool = False
    top_logprobs: Top | None = None

    def count(self, fields: Fields) -> int:
        """How many beside the token itself; -1: none at all. Raises BadRequest."""
        if self.logprobs:
            return MAX_TOP if self.top_logprobs is None else self.top_logprobs
        if self.top_logprobs:
            raise BadRequest("top_logprobs: needs logprobs", "top_logprobs")
        return fields.n_probs or -1


class CompletionLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """What a completion says: a number, or false."""

    logprobs: Top | bool | None = None

    def count(self, fields: Fields) -> int:
        """As ChatLogprobs.count."""
        if self.logprobs is None or self.logprobs is False:
            return fields.n_probs or -1
        return int(self.logprobs)


class Offsets:
    """The places in the text at which tokens begin; a token may hold a part of a character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0

    def next(self, piece: bytes) -> int:
        """Where this token begins, which comes after those asked for so far."""
        at = self._at
        self._at += len(self._decoder.decode(piece))
        return at


def content(tokens: Sequence[Probability], *, after: bool) -> list[dict[str, Any]]:
    """A list of `LP`; after: these are probabilities after sampling."""
    one, many = ("prob", "top_probs") if after else ("logprob", "top_logprobs")
    return [_entry(token, one) | {many: [_entry(other, one) for other in token.top]} for token in tokens]


def completion(tokens: Sequence[Probability], offsets: Offsets, *, after: bool) -> dict[str, Any]:
    """The same with the legacy arrays beside it. There the token itself is always among the best."""
    log = _log if after else _finite
    return {
        "content": content(tokens, after=after),
        "tokens": [_text(token.piece) for token in tokens],
        "token_logprobs": [log(token.value) for token in tokens],
        "top_logprobs": [_best(token, log) for token in tokens],
        "text_offset": [offsets.next(token.piece) for token in tokens],
    }


def _best(token: Probability, log: Callable[[float], float]) -> dict[str, float]:
    found = {_text(other.piece): log(other.value) for other in token.top}
    return found | {_text(token.piece): log(token.value)}


def _entry(token: Probability | Alternative, name: str) -> dict[str, Any]:
    return {
        "id": token.id,
        "token": _text(token.piece),
        "bytes": list(token.piece),
        name: _finite(token.value),
    }


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _finite(value: float) -> float:
    return max(value, _LEAST)


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else _LEAST
