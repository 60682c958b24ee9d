"""A short run of what `make fuzz` does for longer."""

from __future__ import annotations

from tests.fuzz import described


def test_every_route_answers_as_it_is_described() -> None:
    told = described.run(300, 1)
    assert int(told.split()[0].replace(",", "")) > 200
