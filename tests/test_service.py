"""The systemd units, and what `make install` puts where."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import config

ROOT = Path(__file__).parents[1]
UNITS = ("llama-supervisor.service", "llama-supervisor.socket")
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


class _Unit(configparser.RawConfigParser):
    def __init__(self, text: str) -> None:
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string(text)


def install(verb: str, destdir: Path) -> None:
    """Into a folder: without --destdir it would change the system's users."""
    command = [sys.executable, ROOT / ".ci" / "install.py", verb, "--destdir", str(destdir)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, cwd=destdir)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    destdir = tmp_path_factory.mktemp("installed")
    install("install", destdir)
    return destdir


@pytest.fixture(scope="module")
def units(installed: Path) -> list[Path]:
    """The units as installed, but with paths at which their programs really are."""
    folder = installed / "usr" / "local" / "lib" / "systemd" / "system"
    moved = installed / "units"
    moved.mkdir()
    for name in UNITS:
        text = (folder / name).read_text()
        assert "@" not in text.replace("[@…@]", "").split("[Unit]", 1)[1].replace("@system-service", "")
        (moved / name).write_text(text.replace("/usr/local", f"{installed}/usr/local"))
    return [moved / name for name in UNITS]


def test_what_is_installed_runs_from_anywhere_and_has_no_tests_in_it(installed: Path, tmp_path: Path) -> None:
    lib = installed / "usr" / "local" / "lib" / "llama-supervisor"
    python, file = lib / "bin" / "python", installed / "etc" / "llama-supervisor" / "models.toml"
    command = [python, "-P", "-m", "supervisor", "check", file]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    where = "import llama_cpp, proxy.main, supervisor, worker.main; print(supervisor.__file__, llama_cpp.__file__)"
    ended = subprocess.run([python, "-P", "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.stdout.count(str(lib)) == 2, ended.stderr
    assert not list(lib.rglob("pytest"))
    script = (installed / "usr" / "local" / "bin" / "llama-supervisor").read_text()
    assert script.splitlines()[1] == 'exec /usr/local/lib/llama-supervisor/bin/python -P -m supervisor "$@"'


def test_deadlines_and_exit_codes_agree_with_the_server() -> None:
    service = _Unit((ROOT / "conf" / "llama-supervisor.service").read_text())["Service"]
    limits = config.Shutdown()
    total = limits.drain_timeout + limits.stop_timeout + limits.term_timeout + limits.kill_timeout
    assert float(service["TimeoutStopSec"]) > total
    assert int(service["RestartPreventExitStatus"]) == config.EX_CONFIG
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    assert service["OOMPolicy"] == "continue"
    assert "PrivateDevices" not in service  # it hides the GPU
    assert "MemoryDenyWriteExecute" not in service


@systemd
def test_systemd_finds_no_fault_in_the_units(units: list[Path]) -> None:
    command = ["systemd-analyze", "verify", "--man=no", *units]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


@systemd
def test_the_service_is_well_confined(units: list[Path]) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", units[0]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout


def test_a_second_install_keeps_the_configuration_and_uninstall_leaves_nothing_else(installed: Path) -> None:
    """The last one: it takes away what the others look at."""
    shutil.rmtree(installed / "units", ignore_errors=True)
    (installed / "etc" / "llama-supervisor" / "models.toml").write_text("# mine\n")
    first = listing(installed)
    install("install", installed)
    assert listing(installed) == first
    install("uninstall", installed)
    left = [path for path in installed.rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == ["# mine\n"]
    install("uninstall", installed)  # nothing to do is no error


def listing(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts)
