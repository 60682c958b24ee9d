"""Logging of every process: one line per event to the inherited stderr, facts as `key=value`; writing never blocks.

Warnings and worse, and what the level admits, go to stderr; everything of level INFO and up goes to the ring as well.
A record with `extra={"ring_only": True}` reaches stderr only at level debug.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time

from supervisor import ring

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def setup(role: str, ring_fd: int | None = None) -> None:
    """Sends the records of this process to stderr under the name `role`, and to the ring if there is one."""
    root = logging.getLogger()
    root.handlers[:] = [_Stderr(role)]
    if ring_fd is not None:
        root.addHandler(_Ring(ring_fd))
    root.setLevel(logging.INFO)


def rename(role: str) -> None:
    """From now on this process's lines carry another role; a standby that was given a model calls it."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.role = role


def set_level(name: str) -> None:
    """What reaches stderr: "debug", "info", "warning" or "error"."""
    level = _LEVELS[name]
    for handler in logging.getLogger().handlers:
        handler.setLevel(min(level, logging.INFO) if isinstance(handler, _Ring) else level)
    logging.getLogger().setLevel(min(level, logging.INFO))


def limit(rate: float, burst: int) -> None:
    """How many lines a second reach stderr, and how many at once before that counts."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Stderr):
            handler.rate, handler.burst = rate, burst


def facts(**pairs: object) -> str:
    """`key=value key="two words"`, None left out."""
    shown = ((key, _quote(value)) for key, value in pairs.items() if value is not None and value != "")
    return " ".join(f"{key}={value}" for key, value in shown)


def _quote(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text or "=" in text else text


class _Formatter(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info)
        text = "".join(
            char if char.isprintable() else f"\\x{ord(char):02x}" if char != "\n" else " ⏎ " for char in text
        )
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock}.{int(record.msecs):03d} {record.levelname[:4]:<4} {self.role:<12} {text}\n"


class _Stderr(logging.Handler):
    """Own, non-blocking description of fd 2, so that a full pipe or journal stops nobody; the excess is counted."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.setFormatter(_Formatter(role))
        self._fd = _own_description(2)
        self.rate, self.burst = 200.0, 1000  # lines a second, and lines at once
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
        line = self.format(record)
        if self._dropped:
            line, self._dropped = f"{line[:-1]} dropped={self._dropped}\n", 0
        try:
            os.write(self._fd, line.encode("utf-8", "replace"))
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
