"""setuptools' build backend, with one rule of ours: a wheel has the pages in it, or is not made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from setuptools.build_meta import *  # noqa: F403
from setuptools.build_meta import build_wheel as _build_wheel

ROOT = Path(__file__).parents[1]


def build_wheel(*arguments: Any, **options: Any) -> str:
    """Builds the pages if they are missing or old, then the wheel. Raises SystemExit without the pages."""
    if (ROOT / ".ci" / "ui").is_file():
        subprocess.run([ROOT / ".ci" / "ui"], check=False)  # it says what is wrong
    if not (ROOT / "proxy" / "static" / "index.html").is_file():
        raise SystemExit("no wheel: the pages in proxy/static are missing; `make ui` builds them")
    return str(_build_wheel(*arguments, **options))
