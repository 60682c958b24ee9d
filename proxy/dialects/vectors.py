"""What a worker sends for a request for vectors, put together; the same for every route that gives them."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.dialects.fields import bad
from proxy.dialects.openai_completions import Pieces, pieces
from proxy.errors import BadRequest, Unsupported
from supervisor.schema import Path, dotted
from worker.protocol import Accepted, Embed, Event, Rerank, Vector

MAX_INPUTS = 2048  # of one request


class VectorFields(msgspec.Struct, frozen=True, kw_only=True):
    """What every route for embeddings takes. `truncate`: an input that is too long is cut, not refused."""

    model: str = ""
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    embd_normalize: Annotated[int, Meta(ge=-1, le=1000)] | None = None
    truncate: bool = False

    def embed(self, value: Any, field: str, request_id: str, *, per_token: bool = False) -> Embed:
        """Raises BadRequest, Unsupported for what is no input at `field`."""
        return Embed(
            id=0,
            request_id=request_id,
            inputs=tuple(inputs(value, field)),
            normalize=self.embd_normalize,
            dimensions=self.dimensions or 0,
            truncate=self.truncate,
            per_token=per_token,
            field=field,
        )


def inputs(value: Any, field: str) -> list[Pieces]:
    """One input (a string, tokens, or both mixed) or a list of such inputs. Raises BadRequest, Unsupported."""
    if value is None:
        raise BadRequest(f"{field}: required (string or list)", field, "missing_field")
    if not isinstance(value, list):
        return [_pieces(value, (field,))]
    if not value:
        raise bad((field,), "at least one string or token", value)
    if not (any(isinstance(item, list | dict) for item in value) or all(isinstance(item, str) for item in value)):
        return [_pieces(value, (field,))]
    at_most(value, field)
    return [_pieces(item, (field, index)) for index, item in enumerate(value)]


def _pieces(value: Any, path: Path) -> Pieces:
    if isinstance(value, dict):
        raise Unsupported("multimodal input", dotted(path))
    return pieces(value, path)


def at_most(value: list[Any], field: str) -> None:
    """Raises BadRequest for a list of more inputs than one request may have."""
    if len(value) > MAX_INPUTS:
        raise BadRequest(f"{field}: at most {MAX_INPUTS} in one request, got {len(value)}", field)


class Found:
    """The vectors of each input, as they come. `tokens`: of all inputs; `load_ms`: what of the wait was a load."""

    load_ms = 0.0

    def __init__(self, count: int) -> None:
        self.count, self.tokens, self.size = count, 0, 0
        self._width = 1
        self._parts: list[list[bytes]] = []

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Accepted):  # once more if the first worker died before it began
                self.tokens, self.size = event.prompt_tokens, 0
                self._parts = [[] for _ in range(self.count)]
            elif isinstance(event, Vector):
                self._parts[event.input].append(event.data)
                self._width = event.width
                self.size += len(event.data)

    def packed(self, index: int) -> bytes:
        """An input's numbers as little-endian float32."""
        return b"".join(self._parts[index])

    def rows(self, index: int) -> list[tuple[float, ...]]:
        """An input's vectors: one, or one for each token."""
        return list(struct.iter_unpack(f"<{self._width}f", self.packed(index)))

    def first(self, index: int) -> float:
        """An input's first number: a reranker's score."""
        return self.rows(index)[0][0]


class VectorPlan(ABC):
    """A request, parsed: what goes to the worker, and how the answer is made of what comes back."""

    model: str
    ask: Embed | Rerank

    def found(self) -> Found:
        """To be filled with the worker's events."""
        return Found(len(self.ask.inputs if isinstance(self.ask, Embed) else self.ask.documents))

    @abstractmethod
    def body(self, model: str, found: Found) -> bytes:
        """The answer as JSON; safe in any thread. `model` is the canonical id."""
