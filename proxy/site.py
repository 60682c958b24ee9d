"""The files of the user interface: what there is below one folder, and how browsers may keep it.

The folder is read once, and again when its index.html has changed; a request is looked up, never joined to a path.
"""

from __future__ import annotations

import mimetypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

from supervisor.config import Ui

BUILT = Path(__file__).parent / "static"  # `make ui`
INDEX = "/index.html"
_HASHED = re.compile(r"[.-][A-Za-z0-9_-]{8,}\.\w+\Z")  # index-Bx3k9_aQ.js
_FOLDERS = ("/assets/", "/_app/immutable/")  # of names that carry their content's hash
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True)
class File:
    """One file as it is served."""

    path: Path
    etag: str
    kind: str
    immutable: bool


class Site:
    """The files by their URL path. Empty where the interface is off, or has not been built."""

    def __init__(self, ui: Ui) -> None:
        self.enabled = ui.enabled
        self.own = not ui.path
        self.root = Path(ui.path) if ui.path else BUILT
        self._files: dict[str, File] = {}
        self._read_at: tuple[int, int] | None = None
        self.refresh()

    @property
    def served(self) -> bool:
        """Whether there is an interface at `/`."""
        return INDEX in self._files

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def get(self, path: str) -> File | None:
        return self._files.get(path)

    def refresh(self) -> None:
        """Reads the folder, if its index.html is not the one that was read."""
        if not self.enabled:
            return
        try:
            found = os.stat(self.root / "index.html")
        except OSError:
            self._files, self._read_at = {}, None
            return
        if self._read_at != (found.st_mtime_ns, found.st_ino):
            self._files = _files(self.root)
            self._read_at = (found.st_mtime_ns, found.st_ino)


def _files(root: Path) -> dict[str, File]:
    """Regular files at or below `root`; a link that leads out of it is no part of it."""
    real = root.resolve()
    found: dict[str, File] = {}
    for folder, _, names in os.walk(real):
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and path.resolve().is_relative_to(real):
                url = "/" + path.relative_to(real).as_posix()
                found[url] = _file(path, url)
    return found


def _file(path: Path, url: str) -> File:
    stat = path.stat()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    immutable = url.startswith(_FOLDERS) and _HASHED.search(url) is not None
    return File(path, f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"', kind, immutable)
