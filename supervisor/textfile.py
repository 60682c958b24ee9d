"""Reads the files that a person has written."""

from __future__ import annotations

from pathlib import Path

from supervisor.config import ConfigError

EXAMPLE = "conf/models.example.toml shows what it may contain"


def read_text(path: Path) -> str:
    """A file of ours as text. Raises ConfigError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {EXAMPLE}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: not UTF-8: byte 0x{data[error.start]:02x} in line {line}") from None
