"""A folder of models: which files belong together, and what the model is called. The scan child looks.

A .gguf file is a model under its own name. In a folder with one model, that has the folder's name, and a projector
(mmproj*.gguf) beside it is its own; folders in folders are named by the whole way, "publisher/model".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

DEPTH = 4  # of folders below the one that is configured
MOST_ENTRIES = 100_000  # that are looked at
_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf", re.IGNORECASE)
_PROJECTOR = re.compile(r"(?:.*[._-])?mmproj(?:[._-].*)?\.gguf", re.IGNORECASE)
_ILLEGAL = re.compile(r"[^A-Za-z0-9._:/@+-]+")


@dataclass(frozen=True, slots=True)
class Files:
    """One model's files: its shards in order, or its one file, a projector or "", and LoRA adapters."""

    name: str
    paths: tuple[str, ...]
    projector: str = ""
    adapters: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        return [*self.paths, *([self.projector] if self.projector else []), *self.adapters]


def look(folder: str, visit: object = None) -> tuple[list[Files], list[str]]:
    """The models of a folder, and all folders looked at. `visit` is called with each before. Raises OSError."""
    found: list[Files] = []
    folders: list[str] = []
    left = MOST_ENTRIES
    waiting = [(folder, 0)]
    while waiting and left > 0:
        at, depth = waiting.pop(0)
        if callable(visit):
            visit(at)
        try:
            with os.scandir(at) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=_by_name)
        except OSError:
            if depth == 0:
                raise
            continue
        folders.append(at)
        left -= len(entries)
        files = [entry.name for entry in entries if entry.name.lower().endswith(".gguf") and not _is_folder(entry)]
        found += group(files, at, os.path.relpath(at, folder) if depth else "")
        if depth < DEPTH:
            waiting += [(entry.path, depth + 1) for entry in entries if _is_folder(entry)]
    return found, folders


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def group(names: Iterable[str], folder: str, title: str = "") -> list[Files]:
    """Pure: the models among the .gguf files of a folder. `title`: its own name, "" for the outermost one."""
    shards: dict[str, list[str]] = {}
    projectors: list[str] = []
    for name in sorted(names):
        if is_projector(name):
            projectors.append(name)
            continue
        match = _SHARD.fullmatch(name)
        shards.setdefault(match[1] if match else name[: -len(".gguf")], []).append(name)
    projector = os.path.join(folder, best_projector(projectors)) if projectors and title else ""
    alone = title and len(shards) == 1
    return [
        Files(legal(title if alone else stem), tuple(os.path.join(folder, part) for part in parts), projector)
        for stem, parts in shards.items()
    ]


def is_projector(name: str) -> bool:
    """Whether a file of this name belongs to a model, and is none itself."""
    return _PROJECTOR.fullmatch(name) is not None


def best_projector(names: list[str]) -> str:
    """Of several precisions, 16 bits: what llama.cpp recommends."""
    return next((name for name in names if "f16" in name.lower()), names[0])


def siblings(path: str) -> tuple[str, ...]:
    """All shards of the model whose first shard this is, as their names say; else the one path."""
    folder, name = os.path.split(path)
    match = _SHARD.fullmatch(name)
    if match is None:
        return (path,)
    count = max(1, min(int(match[3]), 1000))
    extension = name[-len(".gguf") :]
    stem = f"{match[1]}-%05d-of-{match[3]}{extension}"
    return tuple(os.path.join(folder, stem % number) for number in range(1, count + 1))


def legal(name: str) -> str:
    """A file's name as a model's: what a model's name cannot have becomes -."""
    return _ILLEGAL.sub("-", name).strip("-._:/@+")[:200] or "model"
