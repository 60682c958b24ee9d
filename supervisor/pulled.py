"""Which models of the cache were fetched by this server: an empty file for each, in the state folder."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote

_FOLDER = "pulled"


def names(state: str) -> set[str]:
    """The models, "user/repo:QUANT". Empty without a state folder."""
    try:
        return {unquote(name) for name in os.listdir(os.path.join(state, _FOLDER))} if state else set()
    except OSError:
        return set()


def add(state: str, name: str) -> None:
    """Raises OSError."""
    os.makedirs(os.path.join(state, _FOLDER), mode=0o700, exist_ok=True)
    with open(_file(state, name), "w"):
        pass


def remove(state: str, name: str) -> None:
    """Raises OSError, but not if it is not there."""
    try:
        os.unlink(_file(state, name))
    except FileNotFoundError:
        pass


def _file(state: str, name: str) -> str:
    return os.path.join(state, _FOLDER, quote(name, safe=""))
