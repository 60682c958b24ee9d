"""Inputs of a model that gives vectors: what the I/O thread does for a request before the engine sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worker.embed.rerank import Pairs
from worker.failure import RequestError
from worker.protocol import Chat, Embed, Generate, Infill, Rerank, Text, Tokenize, Tokens

if TYPE_CHECKING:
    from worker.chat.machine import Machine
    from worker.guide import Guide
    from worker.seams import TextSide
    from worker.vocabulary import Vocabulary

_MOST = 64 * 2**20  # bytes of vectors in one answer


class EmbedText:
    """See worker.seams.TextSide."""

    def __init__(
        self, plain: TextSide, vocabulary: Vocabulary, pairs: Pairs | None, limit: int, width: int, *, pooled: bool,
        dimensions: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        """`plain` does what is no vector. `pairs` is given for a reranker. `limit`: tokens of the longest input.

        A vector has `width` numbers, and may be cut to one of `dimensions`.
        """
        self._plain, self._vocabulary, self._pairs = plain, vocabulary, pairs
        self._limit, self._width, self._pooled, self._dimensions = limit, width, pooled, dimensions

    # -- vectors --------------------------------------------------------------------------------------------------

    def inputs(self, request: Embed | Rerank) -> list[list[int]]:
        """Raises RequestError: invalid_value, context_length_exceeded, unsupported_feature."""
        if isinstance(request, Rerank):
            return self._documents(request)
        if self._pairs is not None:
            raise _unsupported("embeddings", "this model is a reranker: it gives scores, not embeddings")
        self._check(request)
        places = _places(request.field, len(request.inputs))
        pairs = zip(request.inputs, places, strict=True)
        found = [self._input(pieces, place, request.truncate) for pieces, place in pairs]
        rows = len(found) if self._pooled else sum(map(len, found))
        if 4 * self._width * rows > _MOST:
            text = f"the answer would have {rows} vectors of {self._width} numbers; at most {_MOST} bytes are given"
            raise RequestError("invalid_value", text, param=request.field)
        return found

    def _check(self, request: Embed) -> None:
        if not self._pooled and not request.per_token:
            text = 'this model gives a vector for each token (pooling "none"): use /embedding, or configure its pooling'
            raise RequestError("invalid_value", text, param=request.field)
        wanted = request.dimensions
        if not wanted or wanted == self._width:
            return
        if not self._dimensions:
            raise _unsupported("dimensions", f"this model's vectors have {self._width} dimensions and cannot be cut")
        if wanted not in self._dimensions:
            sizes = ", ".join(map(str, sorted({*self._dimensions, self._width})))
            raise RequestError("invalid_value", f"dimensions: expected {sizes}, got {wanted}", param="dimensions")

    def _input(self, pieces: Sequence[str | int], place: str, truncate: bool) -> list[int]:
        tokens: list[int] = []
        for at, piece in enumerate(pieces):
            if isinstance(piece, int):
                self._known(piece, place)
                tokens.append(piece)
            else:
                tokens += self._vocabulary.tokenize(piece, special=True, add_special=at == 0)
        if not tokens or all(piece == "" for piece in pieces):
            raise _empty(place)
        if truncate and len(tokens) > self._limit:
            closing = [tokens[-1]] if self._closes(tokens[-1]) else []  # the model was trained with it at the end
            tokens = tokens[: self._limit - len(closing)] + closing
        self._fits(tokens, place)
        return tokens

    def _closes(self, token: int) -> bool:
        vocabulary = self._vocabulary
        if vocabulary.word_piece:
            return token == vocabulary.sep
        return vocabulary.adds_eos and token == vocabulary.eos

    def _documents(self, request: Rerank) -> list[list[int]]:
        if self._pairs is None:
            raise _unsupported("reranking", "this model gives embeddings; it is no reranker")
        limit = self._limit if request.truncate else None
        found = [self._pairs.tokens(request.query, document, limit) for document in request.documents]
        for tokens, place in zip(found, _places(request.field, len(found), alone=False), strict=True):
            if not tokens:
                raise _empty(place)
            self._fits(tokens, place)
        return found

    def _fits(self, tokens: Sequence[int], place: str) -> None:
        if len(tokens) > self._limit:
            what = f"{place} ({len(tokens)} tokens) exceeds the available context size ({self._limit} tokens)"
            fields = {"param": place, "n_prompt_tokens": len(tokens), "n_ctx": self._limit}
            raise RequestError("context_length_exceeded", f'{what}; shorten it, or say "truncate": true', **fields)

    def _known(self, token: int, place: str) -> None:
        """An id outside the vocabulary would be read out of bounds by llama.cpp."""
        if not 0 <= token < self._vocabulary.size:
            text = f"token {token} is not in the vocabulary (0 to {self._vocabulary.size - 1})"
            raise RequestError("invalid_value", f"{place}: {text}", param=place)

    # -- what is no vector ----------------------------------------------------------------------------------------

    def check(self, request: Generate) -> None:
        """Raises RequestError: unsupported_feature."""
        what = "is a reranker" if self._pairs is not None else "gives embeddings"
        raise _unsupported("generation", f"this model {what}; it does not generate text")

    def tokens(self, prompt: Chat | Text | Infill) -> list[int]:
        return self._plain.tokens(prompt)

    def prompt(self, prompt: Chat | Text | Infill) -> list[int]:
        return self._plain.prompt(prompt)

    def machine(self, request: Generate, prompt: Sequence[int]) -> Machine | None:
        return None

    def guides(self, request: Generate, prompt: Sequence[int], machines: Sequence[Machine | None]) -> Sequence[Guide]:
        return ()

    def render(self, chat: Chat) -> str:
        return self._plain.render(chat)

    def tokenize(self, request: Tokenize) -> Tokens:
        return self._plain.tokenize(request)

    def detokenize(self, tokens: Sequence[int]) -> str:
        return self._plain.detokenize(tokens)


def _places(field: str, count: int, *, alone: bool = True) -> list[str]:
    """What a client calls each of so many inputs. `alone`: a single one may stand without a list."""
    return [field] if alone and count == 1 else [f"{field}[{index}]" for index in range(count)]


def _empty(place: str) -> RequestError:
    return RequestError("invalid_value", f"{place}: expected some text or tokens, got none", param=place)


def _unsupported(feature: str, text: str) -> RequestError:
    return RequestError("unsupported_feature", text, feature=feature)
