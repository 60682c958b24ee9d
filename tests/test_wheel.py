"""A wheel has the pages in it, or is not made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys; sys.path.insert(0, '.ci'); import backend; print(backend.build_wheel(sys.argv[1]))"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a wheel is made of, without what builds the pages."""
    folder = tmp_path / "checkout"
    for name in ("supervisor", "worker", "proxy"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("ui", "static", "__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "backend.py", folder / ".ci")
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", BUILD, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_wheel_without_the_pages_is_not_made(checkout: Path) -> None:
    result = build(checkout)
    assert result.returncode == 1
    assert "`make ui` builds them" in result.stderr
    assert not list(checkout.glob("*.whl"))


def test_a_wheel_has_the_pages_and_all_packages(checkout: Path) -> None:
    assets = checkout / "proxy" / "static" / "assets"
    assets.mkdir(parents=True)
    (checkout / "proxy" / "static" / "index.html").write_text("<p>page")
    for name in ("index-12345678.js", "pdf.worker.min-12345678.mjs", "KaTeX_Main-12345678.woff2"):
        (assets / name).write_text("x")
    result = build(checkout)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(next(checkout.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {"proxy/static/index.html", "proxy/static/assets/pdf.worker.min-12345678.mjs"} <= names
    python = {
        path.relative_to(checkout).as_posix()
        for name in ("supervisor", "worker", "proxy")
        for path in (checkout / name).rglob("*.py")
    }
    assert python <= names, sorted(python - names)
