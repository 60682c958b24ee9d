"""How long a load should take, before it has been tried."""

from __future__ import annotations

from supervisor.card import Card
from supervisor.config import Model
from supervisor.control import Entry, Footprint
from supervisor.pace import expected, pace
from tests.supervisor.test_fleet import World


def entry(name: str, size: int = 0, took: float = 0.0) -> Entry:
    memory = Footprint({"ram": size}, load_ms=took) if took else None
    return Entry(Model(name=name), card=Card(file_size=size) if size else None, memory=memory)


def test_it_takes_as_long_as_the_last_time() -> None:
    assert expected(entry("a", 100, 50.0), usual=9.0) == 50.0


def test_a_model_that_was_never_loaded_takes_as_long_as_others_of_its_size() -> None:
    known = [entry("a", 100, 50.0), entry("b", 1000, 400.0), entry("c", 10, 9.0), entry("new", 300)]
    assert pace(known) == 0.5
    assert expected(known[-1], pace(known)) == 150.0


def test_nobody_knows_before_the_first_load_or_the_first_look_at_the_file() -> None:
    assert pace([entry("a", 100), entry("b")]) == 0.0
    assert expected(entry("a", 100), 0.0) == expected(entry("b"), 0.5) == 0.0


def test_what_an_earlier_server_has_measured_is_told_before_the_first_load() -> None:
    world = World()
    world.fleet.adopt({"a": entry("a", 100, 50.0), "b": entry("b", 300)})
    assert {status.name: status.load_ms for status in world.fleet.statuses()} == {"a": 50.0, "b": 150.0}
