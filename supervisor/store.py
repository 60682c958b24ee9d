"""What an operator may ask of models as files: fetch one, delete one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, MutableMapping

from supervisor.control import Answer, Entry, ModelCommand
from supervisor.downloads import Downloads
from supervisor.fleet import Fleet
from supervisor.library import Library
from supervisor.nursery import Nursery
from supervisor.removals import Removals

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class Store:
    """Joins downloads and removals to the fleet and the library. `token`: for the hub."""

    def __init__(self, nursery: Nursery, fleet: Fleet, library: Library, token: str = "") -> None:
        self.downloads = Downloads(nursery, fleet, library, token)
        self.removals = Removals(fleet, library, self.downloads)
        self._library = library

    def obey(self, command: ModelCommand, reply: Callable[[Answer], None]) -> None:
        """`reply` is called once, now or later."""
        (self.downloads.pull if command.verb == "pull" else self.removals.remove)(command, reply)

    def files(self, name: str) -> Mapping[str, tuple[int, int]]:
        return self.downloads.files(name)

    def cancel(self, name: str) -> None:
        self.downloads.cancel(name)

    def wanted(self, entry: Entry) -> None:
        """Somebody wants it loaded: it is fetched first, if that is configured."""
        missing = entry.card is not None and entry.card.cause == "file_missing"
        if missing and entry.model.hf and self._library.autodownload:
            self.downloads.fetch(entry)

    def gone(self, name: str) -> None:
        self.removals.gone(name)

    def close(self) -> None:
        """Downloads end."""
        self.downloads.close()


def _wipe(name: str) -> None:
    """Makes it unreadable in /proc/PID/environ, too, which shows what the process was started with."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype, libc.getenv.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    if (place := libc.getenv(name.encode())) is not None:
        ctypes.memset(place, 0, len(ctypes.string_at(place)))


def take_token(environment: MutableMapping[str, str]) -> str:
    """The token for the hub, which no child but the download's is to inherit; "" if there is none."""
    for name in _TOKENS:
        _wipe(name)
    found = [environment.pop(name, "") for name in _TOKENS]
    return next((token.strip() for token in found if token.strip()), "")
