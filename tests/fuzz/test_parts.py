"""Each parser with some inputs of the fuzzer's, the same ones every time; `make fuzz` has more of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.fuzz import engine
from tests.fuzz.__main__ import PARSERS, main

FEW = {"settings": 100, "answers": 150, "templates": 150}


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_but_a_refusal_comes_of_any_bytes(name: str) -> None:
    assert PARSERS[name].run(FEW.get(name, 700), 7) == "nothing found"


def test_the_same_seed_makes_the_same_bytes() -> None:
    some, same, other = (list(itertools.islice(engine.mutations([b"abc" * 9], [b"x"], seed), 50)) for seed in (1, 1, 2))
    assert some == same != other


def test_a_failure_is_a_finding_and_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "FOUND", tmp_path)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        engine.run("x", lambda data: 1 // len(data), [b"abc", b""], [], 9, 1)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b""]


def test_parts_run_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frames", "-n", "3", "--seed", "3"]) == 0
    assert "frames: nothing found; " in capsys.readouterr().out
