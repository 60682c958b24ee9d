"""What there is to say about a route: the rows of the tables beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

Example = Mapping[str, Any]


class Access(Enum):
    """Who may ask. API.md, 1.7."""

    PUBLIC = "no key needed"
    KEY = "needs a key, where keys are configured"
    ADMIN = "needs a key with admin = true, where keys are configured"


@dataclass(frozen=True)
class Parameter:
    """One of the query, or a header; `{name}` of a path describes itself."""

    name: str
    text: str
    kind: Any = str
    place: str = "query"
    required: bool = False


@dataclass(frozen=True)
class Body:
    """A JSON body. `kinds` are the structs that read it, `instead` types of fields where theirs say less.

    `many`: it is an array of such objects.
    """

    name: str
    kinds: tuple[type[msgspec.Struct], ...]
    example: Example
    instead: Mapping[str, Any] = field(default_factory=dict)
    many: bool = False


@dataclass(frozen=True)
class Answer:
    """What comes where all is well. `content`: the type of the object, None for text; `record`: of one of a stream."""

    text: str
    content: Any = None
    media: str = "application/json"
    record: Any = None
    stream: str = "text/event-stream"
    status: int = 200


@dataclass(frozen=True)
class Operation:
    """A route. `refuses`: the statuses of its errors; `more`: whatever a line cannot say."""

    tag: str
    summary: str
    answer: Answer
    body: Body | None = None
    query: tuple[Parameter, ...] = ()
    refuses: tuple[int, ...] = ()
    access: Access = Access.KEY
    more: str = ""


TEXT = "text/plain"
LINES = "application/x-ndjson"
LOOKS = (401, 403)  # of what only looks
NAMED = (400, 401, 403, 404)  # of what names a model
READS = (400, 401, 403, 404, 408, 413, 429)  # of what has a body
RUNS = (*READS, 422, 500, 501, 503)  # of what a worker answers

MODEL = Parameter("model", "only this model")
AUTOLOAD = Parameter(
    "autoload", "false: the request is refused instead of loading its model; else the configuration says"
)
