"""llama.cpp's own text routes: tokenize, detokenize, apply-template. API.md, 7.2."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.dialects.chat_messages import Conversation
from proxy.dialects.fields import typed
from proxy.dialects.openai_completions import pieces
from worker.protocol import Detokenize, Render, Rendered, Tokenize, Tokens

Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    content: Any = None
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    tokens: list[Token] = msgspec.field(default_factory=list)


def tokenize(body: dict[str, Any]) -> Tokenize:
    """Raises BadRequest."""
    found = typed(body, TokenizeRequest)
    content = "" if found.content is None else found.content
    return Tokenize(
        id=0,
        pieces=pieces(content, ("content",)) if content not in ("", []) else (),
        add_special=found.add_special,
        parse_special=found.parse_special,
        with_pieces=found.with_pieces,
    )


def tokenized(answer: Tokens) -> dict[str, Any]:
    """Token ids; or, with pieces, each with its text, or its bytes where they are no text alone."""
    if answer.pieces is None:
        return {"tokens": answer.tokens}
    pairs = zip(answer.tokens, answer.pieces, strict=True)
    return {"tokens": [{"id": token, "piece": _piece(piece)} for token, piece in pairs]}


def detokenize(body: dict[str, Any]) -> Detokenize:
    """Raises BadRequest."""
    return Detokenize(id=0, tokens=tuple(typed(body, DetokenizeRequest).tokens))


def detokenized(answer: Rendered) -> dict[str, Any]:
    return {"content": answer.text}


def apply_template(body: dict[str, Any]) -> Render:
    """The body of a chat request, of which only the conversation counts. Raises BadRequest, Unsupported."""
    return Render(id=0, chat=typed(body, Conversation).chat())


def applied(answer: Rendered) -> dict[str, Any]:
    return {"prompt": answer.text}


def _piece(raw: bytes) -> str | list[int]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return list(raw)
