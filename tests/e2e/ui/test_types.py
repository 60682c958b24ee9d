"""The pages' own checks, which have run meanwhile: this file is the last one of its folder."""

from __future__ import annotations

from tests.e2e.ui.check import Check


def test_types_and_units_of_the_pages(check: Check) -> None:
    code, said = check.result()
    assert code == 0, said
