"""Drives a function that takes bytes: with mutations of a corpus by a seed, or with atheris, which sees what the bytes
reach. Whatever it raises, and a call that does not end, is a finding.
"""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOUND = ROOT / ".cache" / "fuzz"
PATIENCE = 20  # seconds for one input
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
Target = Callable[[bytes], Any]


class Hang(Exception):
    """One input took longer than PATIENCE."""


def run(name: str, target: Target, corpus: Sequence[bytes], words: Sequence[bytes], count: int, seed: int) -> str:
    """Tries so many inputs. Raises AssertionError with the file that keeps the one that was found."""
    for number, data in enumerate(itertools.islice(mutations(corpus, words, seed), count)):
        if (error := attempt(target, data)) is not None:
            raise AssertionError(f"input {number} of seed {seed} is kept in {keep(name, data)}\n{error}")
    return "nothing found"


def attempt(target: Target, data: bytes) -> str | None:
    """What went wrong with this input, as a traceback."""

    def alarm(*_: object) -> None:
        raise Hang(f"still running after {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(PATIENCE)
    try:
        target(data)
    except Exception:  # that is what is looked for
        return traceback.format_exc(limit=-6)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None


def keep(name: str, data: bytes) -> Path:
    FOUND.mkdir(parents=True, exist_ok=True)
    place = FOUND / f"{name}-{abs(hash(data)):x}"
    place.write_bytes(data)
    return place


def mutations(corpus: Sequence[bytes], words: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """The corpus, then endless changes of it; the same for the same seed."""
    yield from corpus
    draw = random.Random(seed)
    while True:
        data = bytearray(draw.choice(corpus))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 5, 9, 30))):
            _change(data, corpus, words, draw)
        yield bytes(data)


def _change(data: bytearray, corpus: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> None:
    """One change in place."""
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.choice((1, 2, 4, 8, 16, 64, 512)))
    match draw.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        case 1:
            data[at:end] = bytes(draw.randrange(256) for _ in range(end - at))
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end] * draw.choice((1, 2, 50))
        case 4:
            size, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
            value = draw.choice(_INTERESTING) & (256**size - 1)
            data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
        case 5 if words:
            data[at:at] = draw.choice(words)
        case 6 if words:
            data[at:end] = draw.choice(words) * draw.choice((1, 1, 3, 300))
        case 7:
            other = draw.choice(corpus)
            start = draw.randrange(len(other) + 1)
            data[at:end] = other[start : start + draw.randrange(1, 200)]
        case _:
            del data[at:]


_HARNESS = """
import sys, atheris
with atheris.instrument_imports(include=["supervisor", "worker", "proxy"]):
    part = __import__("tests.fuzz.{name}", fromlist=["fuzz"])
atheris.Setup(sys.argv, part.fuzz)
atheris.Fuzz()
"""


def with_atheris(name: str, corpus: Sequence[bytes], seconds: int, seed: int) -> bool:
    """Whether it has found something. In a process of its own: libFuzzer ends the one that it runs in."""
    folder = FOUND / f"{name}-corpus"
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(corpus):
        (folder / f"seed-{number}").write_bytes(data)
    limits = [f"-max_total_time={seconds}", f"-timeout={PATIENCE}", f"-seed={seed % 2**31}"]
    places = [f"-artifact_prefix={FOUND}/{name}-", "-rss_limit_mb=4096", "-verbosity=1", str(folder)]
    ended = subprocess.run([sys.executable, "-c", _HARNESS.format(name=name), *limits, *places], cwd=ROOT, check=False)
    return ended.returncode != 0
