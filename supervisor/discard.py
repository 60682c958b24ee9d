"""Deletes a model's files from the caches that hub.py reads, and nothing else. The scan child does it.

In the Hugging Face cache a file is a link to a blob, which other revisions may link to as well. A blob goes with its
links, a repository's folder with its last file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator

from supervisor.hub import Caches
from supervisor.shelf import is_projector

_PARTIAL = ".incomplete"


def discard(paths: Iterable[str], keep: Iterable[str], places: Caches) -> None:
    """Deletes `paths`, but for what `keep` names or leads to. Raises OSError; PermissionError outside the caches."""
    kept = {path: os.path.realpath(path) for path in keep}
    folders = set()
    for path in sorted(paths, key=_is_projector):  # models first: a projector stays as long as a model is beside it
        if not os.path.lexists(path):
            continue
        folder = _repository(path, places.hub)
        if folder:
            folders.add(folder)
            _from_hub(path, folder, kept)
        elif os.path.dirname(os.path.abspath(path)) == os.path.abspath(places.llama):
            _from_llama(path, places.llama, kept)
        else:
            raise PermissionError(1, "is in no cache", path)
    for folder in folders:
        _prune(folder)


def _repository(path: str, hub: str) -> str:
    """The folder models--USER--REPO that the path is in, or ""."""
    below = os.path.relpath(os.path.abspath(path), os.path.abspath(hub)).split(os.sep)
    inside = len(below) > 2 and below[0].startswith("models--") and below[1] in ("snapshots", "blobs")
    return os.path.join(hub, below[0]) if inside else ""


def _from_hub(path: str, folder: str, kept: dict[str, str]) -> None:
    blob = os.path.realpath(path)
    snapshots = os.path.join(folder, "snapshots")
    if _is_projector(path) and any(not _is_projector(name) for name in _models(snapshots)):
        return
    for link in [link for link in _walk(snapshots) if link != blob and os.path.realpath(link) == blob]:
        if link not in kept:
            os.unlink(link)
    inside = os.path.commonpath([blob, os.path.realpath(folder)]) == os.path.realpath(folder)
    if inside and blob not in kept.values() and os.path.exists(blob):
        os.unlink(blob)


def _from_llama(path: str, cache: str, kept: dict[str, str]) -> None:
    if path in kept or os.path.realpath(path) in kept.values():
        return
    os.unlink(path)
    for beside in (f"{path}.etag", f"{path}.json"):
        if os.path.exists(beside):
            os.unlink(beside)
    left = os.listdir(cache)
    for name in left:  # a repository is listed by its manifest
        _, owner, repository, *_ = [*name.split("="), "", "", ""]
        prefix = f"{owner}_{repository}_"
        mine = name.startswith("manifest=") and os.path.basename(path).startswith(prefix)
        if mine and not any(other.startswith(prefix) and other.endswith(".gguf") for other in left):
            os.unlink(os.path.join(cache, name))


def _prune(folder: str) -> None:
    """Empty folders go; and so does the whole repository once no file is left, unless one is being fetched."""
    snapshots, blobs = os.path.join(folder, "snapshots"), os.path.join(folder, "blobs")
    for at, _, _ in os.walk(snapshots, topdown=False):
        if not os.listdir(at) and at != snapshots:
            os.rmdir(at)
    under_way = os.path.isdir(blobs) and any(name.endswith(_PARTIAL) for name in os.listdir(blobs))
    if not under_way and not list(_walk(snapshots)):
        shutil.rmtree(folder)
        shutil.rmtree(os.path.join(os.path.dirname(folder), ".locks", os.path.basename(folder)), ignore_errors=True)


def _models(snapshots: str) -> list[str]:
    return [path for path in _walk(snapshots) if path.lower().endswith(".gguf")]


def _walk(folder: str) -> Iterator[str]:
    for at, _, names in os.walk(folder):
        yield from (os.path.join(at, name) for name in names)


def _is_projector(path: str) -> bool:
    return is_projector(os.path.basename(path))
