"""Fetches one file: goes on where it was cut, tries again, and checks size and checksum while the bytes pass."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from typing import Protocol

import httpx2
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import get_session, hf_raise_for_status

from worker.download.failure import Failed
from worker.download.remote import Part

_CHUNK = 1 << 20
_TRIES = 6  # in a row without a new byte
_PAUSE = 0.5  # seconds after the first of them, doubled after each
_LONGEST_PAUSE = 30.0
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)  # seconds without a byte
_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)")
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class Watcher(Protocol):
    """Who is told. Each may raise, which ends the transfer."""

    def moved(self, size: int) -> None:
        """So many bytes of the file are there."""

    def wait(self, seconds: float) -> None:
        """Returns after this time."""


class _Again(Exception):
    """It may go better the next time; `after`: seconds that the server asks for."""

    def __init__(self, problem: str, after: float = 0.0) -> None:
        super().__init__(problem)
        self.after = after


class Sink:
    """The file that grows, and the checksum of what is in it."""

    def __init__(self, path: str, part: Part, moved: Callable[[int], None]) -> None:
        """Reads what is there already. Raises OSError."""
        self._part, self._moved = part, moved
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 - closed by `close`
        self.size = 0
        self._begin()
        self._file.seek(0)
        while data := self._file.read(_CHUNK):
            self._took(data)
        self.resumed = self.size > 0

    @property
    def whole(self) -> bool:
        return self.size == self._part.size

    @property
    def right(self) -> bool:
        """Whether the checksum is as the hub says."""
        return self._sum.hexdigest() == self._part.digest.lower()

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._took(view[:written])
            view = view[written:]

    def restart(self) -> None:
        """Empties it."""
        self._file.truncate(0)
        self.size, self.resumed = 0, False
        self._begin()

    def close(self, *, keep: bool = False) -> None:
        """`keep`: it is on the disk when this returns."""
        if keep:
            os.fsync(self._file.fileno())
        self._file.close()

    def _begin(self) -> None:
        self._sum = _sum(self._part)

    def _took(self, data: bytes | memoryview) -> None:
        self._sum.update(data)
        self.size += len(data)
        self._moved(self.size)


def _sum(part: Part) -> hashlib._Hash:
    return hashlib.sha256() if part.is_sha256 else hashlib.sha1(b"blob %d\0" % part.size)  # noqa: S324 - git's id


def right(part: Part, path: str, moved: Callable[[int], None]) -> bool:
    """Whether a file that is there is what the hub says. Raises OSError."""
    found, size = _sum(part), 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            found.update(data)
            moved(size := size + len(data))
    return found.hexdigest() == part.digest.lower()


def fetch(part: Part, path: str, token: str, watcher: Watcher) -> None:
    """Makes `path` the whole file, on the disk and checked; what is there is gone on with. Raises Failed, OSError."""
    sink = Sink(path, part, watcher.moved)
    try:
        while True:
            resumed = sink.resumed
            _fill(sink, part, token, watcher)
            if sink.right:
                sink.close(keep=True)
                return
            found = sink.digest
            sink.restart()
            if not resumed:  # else what was there before may be to blame: once more, from the start
                raise Failed(f"{part.path} is not what the hub says: its checksum is {found}, not {part.digest}")
    finally:
        sink.close()


def _fill(sink: Sink, part: Part, token: str, watcher: Watcher) -> None:
    """Until it is whole. Raises Failed."""
    failures = 0
    if sink.size > part.size:
        sink.restart()
    while not sink.whole:
        before = sink.size
        try:
            _stream(sink, part, token)
            continue
        except (_Again, httpx2.HTTPError) as error:
            problem = error
        failures = 1 if sink.size > before else failures + 1
        if failures >= _TRIES:
            raise Failed(
                f"{part.path}: {problem or type(problem).__name__}; asked again, it goes on at {sink.size} bytes"
            )
        pause = min(_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE)
        watcher.wait(max(pause, min(getattr(problem, "after", 0.0), _LONGEST_PAUSE)))


def _stream(sink: Sink, part: Part, token: str) -> None:
    """One request for what is missing. Raises _Again, Failed, httpx2.HTTPError."""
    headers = build_hf_headers(token=token or None) | {"accept-encoding": "identity"}
    if sink.size:
        headers["range"] = f"bytes={sink.size}-"
    with get_session().stream("GET", part.url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        _check(response, sink, part)
        for data in response.iter_raw():  # as it comes: what waits for a whole piece is lost with the connection
            if sink.size + len(data) > part.size:
                sink.restart()
                raise Failed(f"{part.path} is longer than the {part.size} bytes that the hub says")
            sink.write(data)
    if not sink.whole:
        raise _Again(f"the connection ended after {sink.size} of {part.size} bytes")


def _check(response: httpx2.Response, sink: Sink, part: Part) -> None:
    """Makes the sink ready for what comes. Raises _Again, Failed."""
    status = response.status_code
    if status == 416 or (status == 206 and not _goes_on(response, sink, part)):
        sink.restart()
        raise _Again("the server cannot go on where it was cut")
    if status in _PASSING:
        after = response.headers.get("retry-after", "")
        raise _Again(f"the server answers {status}", float(after) if after.isdigit() else 0.0)
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError:
        hint = ": HF_TOKEN is missing, wrong, or may not read it" if status in (401, 403) else ""
        raise Failed(f"{part.path}: the server answers {status}{hint}") from None
    if status == 206:
        return
    if sink.size:
        sink.restart()  # it sends everything again
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) != part.size:
        raise Failed(f"{part.path} has {length} bytes, not the {part.size} that the hub says")


def _goes_on(response: httpx2.Response, sink: Sink, part: Part) -> bool:
    match = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return match is not None and int(match[1]) == sink.size and match[2] in ("*", str(part.size))
