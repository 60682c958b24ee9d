"""States of slots in files, in llama-server's shapes. API.md, 7.2."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.dialects.fields import typed
from proxy.dialects.management import Named
from proxy.errors import BadRequest
from worker.protocol import SlotAction, SlotDone

_ACTIONS = ("save", "restore", "erase")
_LONGEST = 255  # bytes of a name
_REFUSED = '/\\:*?"<>|'  # as llama-server does


class SlotFile(Named, frozen=True, kw_only=True):
    """`filename`: its name in the configured folder; not where the action is erase."""

    filename: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was done: the fields of one action, beside the slot's number."""

    id_slot: int
    filename: str | msgspec.UnsetType = msgspec.UNSET
    n_saved: int | msgspec.UnsetType = msgspec.UNSET
    n_written: int | msgspec.UnsetType = msgspec.UNSET
    n_restored: int | msgspec.UnsetType = msgspec.UNSET
    n_read: int | msgspec.UnsetType = msgspec.UNSET
    n_erased: int | msgspec.UnsetType = msgspec.UNSET
    timings: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


def parse(id: str, action: str | None, body: dict[str, Any], request_id: str) -> SlotAction:
    """What to do with which of the model's slots. Raises BadRequest."""
    if not (id.isascii() and id.isdigit() and len(id) < 10):
        raise BadRequest(f"id: expected integer ≥ 0, got {id[:40]!r}", "id")
    match action:
        case "erase":
            return SlotAction(0, request_id, int(id), action)
        case "save" | "restore":
            return SlotAction(0, request_id, int(id), action, _name(typed(body, SlotFile).filename))
        case _:
            words = ", ".join(f'"{word}"' for word in _ACTIONS)
            raise BadRequest(f"action: expected one of {words} (?action=save), got {(action or '')[:40]!r}", "action")


def done(ask: SlotAction, slot: int, event: SlotDone) -> Done:
    """The answer. `slot`: its number as the client knows it."""
    took = round(event.time_ms, 3)
    match ask.action:
        case "save":
            counts: dict[str, Any] = {"n_saved": event.tokens, "n_written": event.size, "timings": {"save_ms": took}}
        case "restore":
            counts = {"n_restored": event.tokens, "n_read": event.size, "timings": {"restore_ms": took}}
        case "erase":
            return Done(id_slot=slot, n_erased=event.tokens)
    return Done(id_slot=slot, filename=ask.filename, **counts)


def _name(text: str) -> str:
    if not text:
        raise BadRequest("filename: required (string)", "filename", "missing_field")
    if reason := _unfit(text):
        raise BadRequest(f"filename: expected {reason}, got {text[:60]!r}", "filename")
    return text


def _unfit(name: str) -> str:
    """What a name should be that it is not; "" if it is fine."""
    if "/" in name or "\\" in name:
        return "a name in the folder for slots, no path"
    if not name.isprintable():
        return "printable characters"
    if any(character in _REFUSED for character in name):
        return f"a name without {_REFUSED[2:]}"
    if name.strip(" .") != name:
        return "a name that neither begins nor ends with a dot or a space"
    return "" if len(name.encode()) <= _LONGEST else f"at most {_LONGEST} bytes"
