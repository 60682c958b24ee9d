"""Each parser with some inputs of the fuzzer's, the same ones every time; `make fuzz` has more of them."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz import engine
from tests.fuzz.__main__ import main, parts

FEW = {"settings": 100, "answers": 150, "templates": 150}
PARTS = {name: part for name, part in parts().items() if hasattr(part, "fuzz")}


@pytest.mark.parametrize("name", PARTS)
def test_nothing_but_a_refusal_comes_of_any_bytes(name: str) -> None:
    part = PARTS[name]
    for data in itertools.islice(engine.mutations(part.CORPUS, part.WORDS, seed=7), FEW.get(name, 700)):
        error = engine.attempt(part.fuzz, data)
        assert error is None, f"{engine.keep(name, data)}\n{error}"


def test_the_same_seed_makes_the_same_bytes() -> None:
    some, same, other = (list(itertools.islice(engine.mutations([b"abc" * 9], [b"x"], seed), 50)) for seed in (1, 1, 2))
    assert some == same != other


def test_a_failure_is_a_finding() -> None:
    assert "ZeroDivisionError" in (engine.attempt(lambda data: 1 // 0, b"") or "")


def test_parts_run_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frames", "--seconds", "0", "--engine", "mutate", "--seed", "3"]) == 0
    assert "frames: 1 inputs, nothing found (seed 3)" in capsys.readouterr().out
