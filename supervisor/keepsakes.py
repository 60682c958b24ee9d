"""What the scan child keeps in the state folder: cards by file, so that none is read twice; and measured memory.

A card counts as long as its files are the same: size, modification time in ns, and inode of each. Whatever is wrong
with the folder or what stands in it, the server goes on without.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from supervisor.card import Card
from supervisor.control import Footprint

VERSION = 2  # raise it when cards mean something else
MOST_MEMORIES = 4096
Identity = tuple[tuple[int, int, int], ...]


class _Known(msgspec.Struct, frozen=True):
    identity: Identity
    card: Card


class _Cards(msgspec.Struct):
    version: int = VERSION
    cards: dict[str, _Known] = {}


class _Memories(msgspec.Struct):
    version: int = VERSION
    memory: dict[str, Footprint] = {}


def folder(configured: str, environment: Mapping[str, str]) -> str:
    """The state folder: the configured one, or where such things belong."""
    if configured:
        return configured
    base = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME", "/"), ".local", "state")
    return os.path.join(base, "llama-supervisor")


def identity(paths: Sequence[str]) -> Identity:
    """What tells these files from others at the same places. Raises OSError."""
    found = (os.stat(path) for path in paths)
    return tuple((status.st_size, status.st_mtime_ns, status.st_ino) for status in found)


class Keepsakes:
    """The content of one state folder. `problem` says why nothing can be kept, or is ""."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._cards: _Cards = self._read("cards", _Cards)
        self._memories: _Memories = self._read("memory", _Memories)
        self._seen: dict[str, _Known] = {}
        self.problem = ""

    @property
    def memory(self) -> dict[str, Footprint]:
        return self._memories.memory

    def card(self, path: str, known_as: Identity) -> Card | None:
        """The card of files that were read before and are still the same."""
        known = self._cards.cards.get(path)
        if known is None or known.identity != known_as:
            return None
        self._seen[path] = known
        return known.card

    def keep(self, path: str, known_as: Identity, card: Card) -> None:
        self._seen[path] = _Known(known_as, card)

    def save_cards(self) -> None:
        """Writes those that were asked for or kept since the last time; the others' files are gone."""
        seen, self._seen = self._seen, {}
        if seen != self._cards.cards:
            self._cards = _Cards(cards=seen)
            self._write("cards", self._cards)

    def remember(self, key: str, footprint: Footprint) -> None:
        """Keeps how much memory a model took; the oldest memories go first."""
        self._memories.memory.pop(key, None)
        self._memories.memory[key] = footprint
        for old in list(self._memories.memory)[:-MOST_MEMORIES]:
            del self._memories.memory[old]
        self._write("memory", self._memories)

    def _read(self, name: str, kind: Any) -> Any:
        try:
            with open(self._file(name), "rb") as file:
                found = msgspec.msgpack.decode(file.read(), type=kind)
        except (OSError, msgspec.MsgspecError, ValueError):
            return kind()  # not there, or not ours
        return found if found.version == VERSION else kind()

    def _write(self, name: str, content: object) -> None:
        part = f"{self._file(name)}.{os.getpid()}"
        try:
            os.makedirs(self._place, mode=0o700, exist_ok=True)
            with open(part, "wb") as file:
                file.write(msgspec.msgpack.encode(content))
            os.replace(part, self._file(name))
        except OSError as error:
            self.problem = f"{self._place}: {error.strerror}"

    def _file(self, name: str) -> str:
        return os.path.join(self._place, f"{name}.msgpack")
