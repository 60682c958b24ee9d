"""Crash reports: what is in one, when it is written, and by whom. The root writes no file itself."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from supervisor import crash
from supervisor.config import Sources
from supervisor.control import Death, Died, KeepReport, State
from supervisor.nursery import Ended
from supervisor.recorder import Record, Served
from supervisor.resident import Memory
from tests.supervisor.test_catalog import World as Shelves
from tests.supervisor.test_fleet import World

DEATH = Death("w:a", 100.0, "crashed", "it crashed", -11, "SIGSEGV", model="a", report="20260101T000000Z-a-0000")
END = Ended(
    -11, ("last",), "stack", 812, 60.0, "decode", ("first", "last"),
    Record("decode", 99.5, (Served("old", 50.0, 60.0), Served("lost", 98.0, None))), Memory(5, 1, 9),
)  # fmt: skip


def made(number: int = 0) -> crash.CrashReport:
    return crash.report(replace(DEATH, report=f"20260101T000000Z-a-{number:04x}"), END)


def test_a_report_has_what_the_process_itself_recorded() -> None:
    found = crash.report(DEATH, END)
    assert (found.born, found.died, found.phase, found.phase_since) == (40.0, 100.0, "decode", 99.5)
    assert found.memory == {"resident": 5, "shared": 1, "peak": 9, "available": found.memory["available"]}
    assert [(request.id, request.ended) for request in found.requests] == [("old", 60.0), ("lost", None)]
    assert (found.stack, found.log_tail) == ("stack", ("first", "last"))
    assert msgspec.json.decode(msgspec.json.encode(found), type=crash.CrashReport) == found


def test_without_a_record_there_is_a_report_all_the_same() -> None:
    found = crash.report(DEATH, Ended(-9, (), "", phase="loading"))
    assert (found.phase, found.memory.keys(), found.requests) == ("loading", {"available"}, ())


@pytest.mark.parametrize("kept", [100, 0])
def test_a_death_is_told_with_the_name_of_its_report_if_any_are_kept(kept: int) -> None:
    world = World()
    settings = world.fleet.stock.config
    world.fleet.reconfigure(replace(settings, state=replace(settings.state, crash_reports=kept)))
    reports: list[crash.CrashReport] = []
    world.fleet.reported = reports.append
    world.load("a")
    world.ended("a", -11)
    assert world.state("a") is State.BACKOFF
    died = next(message for message in world.proxies.running[0].heard if isinstance(message, Died))
    assert [report.id for report in reports] == ([died.death.report] if kept else [])
    assert bool(died.death.report) == bool(kept)


def kept(world: Shelves) -> list[str]:
    heard = [message for child in world.nursery.children for message in child.heard]
    return [message.id for message in heard if isinstance(message, KeepReport)]


def test_reports_are_written_a_little_later_and_together_by_a_child_that_then_goes() -> None:
    world = Shelves(sources=Sources())
    for number in range(3):
        world.library.report(made(number))
    assert kept(world) == []
    world.timers.run(world.timers.next() or 0.0)
    assert kept(world) == [made(number).id for number in range(3)]
    assert len(world.nursery.children) == 1
    assert world.child.stops == ["polite"]


def test_what_waits_when_the_server_ends_is_written_and_a_flood_keeps_the_last() -> None:
    world = Shelves()
    for number in range(100):
        world.library.report(made(number))
    world.library.close()
    assert kept(world) == [made(number).id for number in range(36, 100)]
    assert world.child.stops == ["polite"]


def test_none_are_kept_where_none_are_wanted() -> None:
    world = Shelves()
    state = replace(world.library._config.state, crash_reports=0)
    world.library.reconfigure(replace(world.library._config, state=state))
    world.library.report(made())
    assert world.timers.next() is None
