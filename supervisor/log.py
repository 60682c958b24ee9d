"""Logging of every process: one line per event to the inherited stderr, as text or JSON; writing never blocks.

Facts are `key=value` at the end of a text line, and fields of a JSON one. Warnings and worse, and what the level
admits, go to stderr; everything of level INFO and up goes to the ring as well. A record with
`extra={"ring_only": True}` reaches stderr only at level debug.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import time
from collections.abc import Mapping
from typing import Any

from supervisor import ring

_RATE, _BURST = 200.0, 1000  # lines a second, and lines at once
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def setup(role: str, ring_fd: int | None = None, level: str = "info", form: str = "text") -> None:
    """Sends the records of this process to stderr under the name `role`, and to the ring if there is one."""
    root = logging.getLogger()
    root.handlers[:] = [_Stderr(role)]
    if ring_fd is not None:
        root.addHandler(_Ring(ring_fd))
    configure(level, form)


def rename(role: str) -> None:
    """From now on this process's lines carry another role; a standby that was given a model calls it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stderr):
            handler.role = role


def configure(level: str, form: str, rate: float = _RATE, burst: int = _BURST) -> None:
    """What reaches stderr, "debug", "info", "warning" or "error", and how it looks: "text" or "json".

    `rate` lines a second, and `burst` of them at once before that counts.
    """
    least = _LEVELS[level]
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stderr):
            handler.setFormatter(_FORMS[form](handler))
            handler.rate, handler.burst = rate, burst
        handler.setLevel(min(least, logging.INFO) if isinstance(handler, _Ring) else least)
    logging.getLogger().setLevel(min(least, logging.INFO))


class Facts(str):
    """Facts as text, `key=value key="two words"`, and as they were; None and "" are left out."""

    pairs: Mapping[str, object]


def facts(**pairs: object) -> Facts:
    """What goes into a record as the argument of its last `%s`."""
    known = {key: value for key, value in pairs.items() if value is not None and value != ""}
    found = Facts(" ".join(f"{key}={_quote(value)}" for key, value in known.items()))
    found.pairs = known
    return found


def _quote(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text or "=" in text else text


class _Text(logging.Formatter):
    """`12:34:56.789 INFO proxy-0      lost model=qwen3 cause=crashed`"""

    def __init__(self, source: _Stderr) -> None:
        super().__init__()
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info)
        text = "".join(
            char if char.isprintable() else f"\\x{ord(char):02x}" if char != "\n" else " ⏎ " for char in text
        )
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock}.{int(record.msecs):03d} {record.levelname[:4]:<4} {self._source.role:<12} {text}"


class _Json(logging.Formatter):
    """`{"time":"2026-01-31T12:34:56.789Z","level":"info","process":"proxy-0","message":"lost","model":"qwen3",…}`

    A fact that has the name of one of these has a `_` behind it.
    """

    def __init__(self, source: _Stderr) -> None:
        super().__init__()
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found: dict[str, Any] = {
            "time": f"{clock}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._source.role,
            "logger": record.name,
            "message": "",
        }
        arguments = record.args if isinstance(record.args, tuple) else ()
        for each in arguments:
            for key, value in each.pairs.items() if isinstance(each, Facts) else ():
                found[f"{key}_" if key in found else key] = value
        plain = tuple("" if isinstance(each, Facts) else each for each in arguments)
        found["message"] = (str(record.msg) % plain if plain else record.getMessage()).strip()
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=False, default=str, separators=(",", ":"))


_FORMS = {"text": _Text, "json": _Json}


class _Stderr(logging.Handler):
    """Own, non-blocking description of fd 2, so that a full pipe or journal stops nobody; the excess is counted."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role
        self._fd = _own_description(2)
        self.rate, self.burst = _RATE, _BURST
        self._tokens, self._at, self._dropped = float(self.burst), time.monotonic(), 0

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "ring_only", False) and self.level != logging.DEBUG:
            return
        now = time.monotonic()
        self._tokens = min(float(self.burst), self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            self._dropped += 1
            return
        self._tokens -= 1
        line, dropped = self.format(record), self._dropped
        if dropped:  # said by the next line that passes
            line = f'{line[:-1]},"dropped":{dropped}}}' if line.startswith("{") else f"{line} dropped={dropped}"
            self._dropped = 0
        try:
            os.write(self._fd, f"{line}\n".encode("utf-8", "replace"))
        except OSError:
            self._dropped += 1


class _Ring(logging.Handler):
    def __init__(self, fd: int) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(message)s"))
        self._writer = ring.Writer(fd)

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self.format(record).encode("utf-8", "replace") + b"\n")


def _own_description(fd: int) -> int:
    """A description of the same file that may be non-blocking without harm to those who share `fd`."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if stat.S_ISSOCK(mode):
            os.set_blocking(fd, False)  # the journal: every writer of this tree wants the same
    except OSError:
        pass
    return sys.__stderr__.fileno() if sys.__stderr__ else fd
