"""How long a request wants its idle model kept: `keep_alive` (Ollama), `ttl` (LM Studio). API.md, 1.8."""

from __future__ import annotations

import math
import re
from typing import Annotated

import msgspec

from supervisor.schema import Parsed

FOR_EVER = -1.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")
_GO = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)")  # Go's time.ParseDuration


def parse_keep_alive(value: object) -> float:
    """Seconds from a number or a Go duration ("10m", "1h30m"); what is negative is FOR_EVER. Raises ValueError."""
    if isinstance(value, str):
        if (match := _GO.fullmatch(value)) is None:
            raise ValueError
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(match[2]))
        return FOR_EVER if match[1] == "-" and seconds else seconds
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value) if value >= 0 else FOR_EVER


def parse_ttl(value: object) -> float:
    """Seconds ≥ 0. Raises ValueError."""
    if isinstance(value, str) or (seconds := parse_keep_alive(value)) < 0:
        raise ValueError
    return seconds


KeepAlive = Annotated[float, Parsed('seconds or a duration like "10m"; negative: for ever', parse_keep_alive)]
Ttl = Annotated[float, Parsed("seconds ≥ 0", parse_ttl)]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The part of any body that says it. `kept`: seconds after its last use, negative for ever; None: as it is."""

    keep_alive: KeepAlive | None = None
    ttl: Ttl | None = None

    @property
    def kept(self) -> float | None:
        return self.ttl if self.keep_alive is None else self.keep_alive
