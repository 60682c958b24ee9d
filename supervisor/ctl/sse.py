"""Server-sent events out of a stream of bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True)
class Event:
    """One record of GET /models/sse. API.md, 2.3. `id` is "" where the record has none."""

    id: str
    model: str
    event: str
    data: dict[str, Any]


def events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, given line by line; comments, and records that are no event of a model, are left out."""
    id, data = "", list[bytes]()
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"id":
            id = value.decode("utf-8", "replace")
        elif not field and not value and not line.startswith(b":"):
            if data and (found := _event(id, b"\n".join(data))):
                yield found
            id, data = "", []


def _event(id: str, data: bytes) -> Event | None:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return None
    if not isinstance(found, dict) or "event" not in found:
        return None
    details = found.get("data")
    return Event(id, str(found.get("model", "")), str(found["event"]), details if isinstance(details, dict) else {})
