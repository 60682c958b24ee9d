"""The audit of what is required: a known vulnerability is a failure, having nobody to ask is none."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit"
WELL = {"name": "a", "version": "1", "vulns": []}
ILL = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("audit", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("audit", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    return module


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([WELL, UNKNOWN], 0, "audit: 1 packages, 0 with known vulnerabilities; nothing could be found out of 1 others"),
        ([WELL, ILL], 1, "audit: b 2: CVE-1, mended in 3"),
        ([UNKNOWN], 0, "audit: skipped: of none of 1 packages"),
    ],
)
def test_what_it_says(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    dependencies: list[dict[str, Any]], code: int, said: str,
) -> None:  # fmt: skip
    ended = subprocess.CompletedProcess([], 0, json.dumps({"dependencies": dependencies}), "")
    monkeypatch.setattr(audit.subprocess, "run", lambda *command, **more: ended)
    assert audit.main() == code
    assert said in capsys.readouterr().out


def test_without_an_answer_it_is_skipped_and_says_why(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.CompletedProcess([], 1, "", "ConnectionError: no route\n")
    monkeypatch.setattr(audit.subprocess, "run", lambda *command, **more: ended)
    assert audit.main() == 0
    assert capsys.readouterr().out == "audit: skipped: ConnectionError: no route\n"

    def late(*command: object, **more: object) -> None:
        raise subprocess.TimeoutExpired("pip_audit", 120)

    monkeypatch.setattr(audit.subprocess, "run", late)
    assert audit.main() == 0
    assert "skipped: no answer within" in capsys.readouterr().out
