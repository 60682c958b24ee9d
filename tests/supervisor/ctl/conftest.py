"""The environment says nothing about a server, whoever runs the tests."""

from __future__ import annotations

import pytest

from supervisor.ctl import arguments


@pytest.fixture(autouse=True)
def nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (arguments.URL, arguments.KEY, "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
