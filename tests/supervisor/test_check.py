"""`python -m supervisor check`: every model with what it is, and what is odd."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from supervisor.check import report
from supervisor.configfile import load
from tests import models


def test_each_model_is_described_and_each_oddity_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    shutil.copy(models.tiny(), shelf / "good.gguf")
    shutil.copy(models.tiny(), shelf / "far.gguf")
    shutil.copy(models.broken()["random"], shelf / "bad.gguf")
    (tmp_path / "p.ini").write_text("[good]\nctx-size = 100\nodd = 1\n")
    (tmp_path / "m.toml").write_text(
        '[server]\nlisten = [":1"]\n[sources]\nmodels_dir = "shelf"\npresets = "p.ini"\n'
        '[admission]\nfallback_model = "gone"\n[models.far]\nhf = "u/r"\naliases = ["f"]\n'
    )
    lines = list(report(load(tmp_path / "m.toml")))
    assert lines[0] == f"{tmp_path}/m.toml: correct"
    assert lines[1].startswith("  far, f: u/r, 4 × 4096 tokens of context; unusable: u/r is in no local cache")
    assert lines[2].startswith(f"  good: {shelf}/good.gguf, llama F32, 1 × 100 tokens of context, about 50 MiB")
    assert lines[3].endswith("unusable: " + f"{shelf}/bad.gguf: not a GGUF file: it does not begin with GGUF")
    assert [line.removeprefix("  warning: ") for line in lines[4:]] == [
        "[server].listen reaches beyond this machine, but there are no [[keys]]: anyone may use it",
        "[admission] names gone, but there is no such model now",
        f"{tmp_path}/p.ini: [good].odd: not known here, ignored",
        f"{shelf}/far.gguf: the name far is taken, by [models.far] or another file",
    ]


def test_variants_are_listed_and_their_names_known(tmp_path: Path) -> None:
    echo = '[models.echo]\nworker = "tests.echo_worker:main"\n[models.v]\nbase = "echo"\naliases = ["w"]\n'
    (tmp_path / "m.toml").write_text(
        f'[sources]\nmodels_dir = "."\n[admission]\ndefault_model = "w"\n{echo}[models.x]\nbase = "later"\n'
    )
    lines = list(report(load(tmp_path / "m.toml")))
    assert lines[2:] == [
        "  v, w: a variant of echo",
        "  x: a variant of later",
        "  warning: [models.x].base is later, but there is no such model now",
    ]
