"""What every dialect makes of a call's events: a stream of records, or one object.

Answer
├── Reply        the OpenAI family before Responses: several choices, chunks (reply.py)
└── Single       one choice: a row of blocks (single.py)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from proxy.errors import ApiError
from proxy.sse import SSE, Framing, record
from worker.protocol import Event

Indexed = Iterable[tuple[int, Event]]  # events with the number of their choice


class Answer(ABC):
    """One answer while it comes into being. `load_ms`: the part of the wait that was a load, set before events come."""

    framing: Framing = SSE
    asks_probs = False  # whether choices have logprobs even if no token has
    verbose = False  # whether the native objects go beside the answer, where the dialect has a place for them
    load_ms = 0.0

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the last event has come."""

    @abstractmethod
    def records(self, events: Indexed) -> bytes:
        """The records of a batch, for a stream."""

    @abstractmethod
    def collect(self, events: Indexed) -> None:
        """Takes a batch for the answer as one object."""

    @abstractmethod
    def object(self) -> Any:
        """The answer as one object, or as a list of them."""

    def failure(self, error: ApiError) -> bytes:
        """The record that ends a stream in the place of its proper end."""
        return record(error.body())
