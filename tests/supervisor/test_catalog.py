"""Which models there are, what changes between two catalogs, and the root's side of the scan child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor import catalog, machine, roster
from supervisor.card import Card, Layer, Shape
from supervisor.catalog import Findings, entries, memory_key, sought
from supervisor.config import Config, Liveness, Model, Sources, StateFolder
from supervisor.control import (
    Entry,
    FolderChanged,
    Footprint,
    Found,
    Known,
    Message,
    Remember,
    Scan,
    Scanned,
    Sought,
    Stuck,
)
from supervisor.library import Library
from supervisor.liveness import Verdict
from supervisor.nursery import Ended
from supervisor.timers import Timers

CARD = Card(architecture="llama", file_size=5, modified=7, shape=Shape((Layer(1000, 8, 8),)))
FOLDER = Sources(models_dir="/m")


def found(name: str, source: str = "models_dir", path: str = "", card: Card = CARD) -> Found:
    return Found(name, path or f"/m/{name}.gguf", "", source, card)


def config(*models: Model, **more: Any) -> Config:
    return Config(file="x", models={model.name: model for model in models}, **more)


def known(*all_: Found, complete: bool = True) -> Findings:
    findings = Findings(complete=complete)
    findings.add(all_)
    return findings


def test_what_was_found_has_the_defaults() -> None:
    listed, reports = entries(config(defaults=Model(n_ctx=77)), known(found("a"), found("b", "cache")))
    assert [(e.model.name, e.model.path, e.model.n_ctx, e.source) for e in listed.values()] == [
        ("a", "/m/a.gguf", 77, "models_dir"),
        ("b", "/m/b.gguf", 77, "cache"),
    ]
    assert listed["a"].estimated["ram"] > 1000
    assert reports == []


def test_the_configuration_counts_before_what_was_found_and_duplicates_are_reported() -> None:
    mine = Model(name="mine", path="/m/x.gguf", aliases=("alias",))
    others = (found("mine"), found("alias"), found("two"), found("two", "cache"), found("x", path="/m/x.gguf"))
    listed, reports = entries(config(mine), known(*others))
    assert set(listed) == {"mine", "two"}
    assert listed["mine"].model.path == "/m/x.gguf"
    assert [report.partition(":")[0] for report in reports] == ["/m/mine.gguf", "/m/alias.gguf", "/m/two.gguf"]


def test_two_files_of_one_name_are_reported_and_the_first_counts() -> None:
    findings = known(found("a", path="/m/a b.gguf"), found("a", path="/m/a-b.gguf"))
    listed, reports = entries(config(), findings)
    assert listed["a"].model.path == "/m/a b.gguf"
    assert reports == ["/m/a-b.gguf: /m/a b.gguf has the name a already"]


def test_a_repository_is_pending_until_it_was_looked_for() -> None:
    far = config(Model(name="far", hf="u/r"))
    assert entries(far, Findings())[0]["far"].pending
    absent = Card(cause="file_missing", problem="not there")
    listed = entries(far, known(Found("far", "", "", "preset", absent)))[0]["far"]
    assert (listed.pending, listed.card) == (False, absent)
    listed = entries(far, known(found("far", "preset", "/hub/x.gguf")))[0]["far"]
    assert (listed.model.path, listed.source) == ("/hub/x.gguf", "preset")


def test_a_preset_without_a_file_is_about_the_model_of_its_name() -> None:
    preset = config(Model(name="a", n_ctx=99), sources=FOLDER)
    assert entries(preset, Findings())[0]["a"].pending
    listed = entries(preset, known(found("a")))[0]["a"]
    assert (listed.model.path, listed.model.n_ctx) == ("/m/a.gguf", 99)
    missing = entries(preset, known())[0]["a"].card
    assert missing is not None
    assert missing.cause == "file_missing"


def test_a_model_of_another_worker_needs_no_file() -> None:
    listed = entries(config(Model(name="echo", worker="x.y:z"), sources=FOLDER), known())[0]["echo"]
    assert (listed.pending, listed.card) == (False, None)


def test_only_what_names_a_file_is_sought() -> None:
    both = config(Model(name="a", path="/x", mmproj="/p"), Model(name="b", hf="u/r"), Model(name="c"))
    assert sought(both) == (Sought("a", "/x", "/p"), Sought("b", hf="u/r"))


def test_measured_memory_belongs_to_file_and_settings() -> None:
    model = Model(name="a", path="/m/a.gguf")
    findings = known(found("a"))
    findings.memory[memory_key(model, CARD)] = Footprint({"ram": 9})
    assert entries(config(), findings)[0]["a"].memory == Footprint({"ram": 9})
    assert entries(config(defaults=Model(n_ctx=1)), findings)[0]["a"].memory is None
    assert memory_key(model, CARD) != memory_key(model, Card(file_size=6, modified=7))


def test_an_entry_that_is_as_before_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = known(found("a"))
    before = entries(config(), findings)[0]
    monkeypatch.setattr(catalog, "estimate", None)
    assert entries(config(), findings, before)[0]["a"] is before["a"]


# -- from one catalog to the next ----------------------------------------------------------------------------------


def entry(name: str = "a", card: Card | None = CARD, **more: Any) -> Entry:
    return Entry(Model(name=name, **more), card=card)


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (entry(), set()),
        (entry(title="x", tags=("y",), hidden=True, aliases=("z",), pin=True), {"changed"}),
        (entry(n_ctx=1), {"changed", "reload"}),
        (entry(card=Card(file_size=6, modified=8)), {"changed", "repaired"}),
        (entry(card=Card(file_size=5, modified=7, name="x")), {"changed"}),
        (entry("b"), {"added", "gone"}),
    ],
)
def test_changes_are_told_apart(after: Entry, what: set[str]) -> None:
    made = roster.change({"a": entry()}, {after.model.name: after})
    assert {name for name in ("added", "changed", "reload", "repaired", "gone") if getattr(made, name)} == what


def test_the_first_card_is_no_repair() -> None:
    assert roster.change({"a": entry(card=None)}, {"a": entry()}).repaired == []


# -- the library ---------------------------------------------------------------------------------------------------


class Child:
    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.stops: list[str] = []
        self.born = 0.0
        self.stopping = False


class Nursery:
    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, entry: str, role: str, owner: object) -> Child:
        self.children.append(Child())
        return self.children[-1]

    def send(self, child: Child, message: Message) -> None:
        child.heard.append(message)

    def stop(self, child: Child, how: Any) -> None:
        child.stops.append(how.__name__)


class World:
    def __init__(self, *models: Model, sources: Sources = FOLDER) -> None:
        self.nursery, self.timers = Nursery(), Timers()
        self.listed: list[dict[str, Entry]] = []
        settings = config(*models, sources=sources, state=StateFolder(dir="/s"), liveness=Liveness())
        self.library = Library(self.nursery, self.timers, settings, lambda listed, _: self.listed.append(listed))  # type: ignore[arg-type]

    @property
    def child(self) -> Any:
        return self.nursery.children[-1]

    def say(self, message: Any) -> None:
        self.library.heard(self.child, message, [])

    def done(self, *all_: Found) -> None:
        scan = next(message for message in reversed(self.child.heard) if isinstance(message, Scan))
        self.say(Scanned(scan.number, all_, done=True))

    def end(self, code: int = 0) -> None:
        self.library.ended(self.child, Ended(code, (), ""))


def test_a_scan_lists_what_it_finds_and_takes_away_what_it_does_not_find_any_more() -> None:
    world = World()
    world.library.rescan()
    world.say(Known({}, ()))
    world.say(Scanned(1, (found("a"),)))
    world.done(found("b"))
    assert set(world.listed[-1]) == {"a", "b"}
    world.say(FolderChanged())
    world.say(Scanned(2, (found("b"),)))
    assert set(world.listed[-1]) == {"a", "b"}
    world.done()
    assert set(world.listed[-1]) == {"b"}
    assert len(world.nursery.children) == 1


def test_answers_to_an_earlier_question_do_not_count() -> None:
    world = World()
    world.library.rescan()
    world.library.rescan()
    world.say(Scanned(1, (found("old"),), done=True))
    assert world.listed == []
    world.done(found("new"))
    assert set(world.listed[-1]) == {"new"}


def test_whoever_asked_is_answered_at_the_end() -> None:
    world, answered = World(), list[int]()
    world.library.rescan(lambda: answered.append(1))
    world.library.rescan(lambda: answered.append(2))
    assert answered == []
    world.done()
    assert answered == [1, 2]


def test_without_a_folder_to_watch_the_child_goes_and_the_next_question_starts_another() -> None:
    world = World(Model(name="a", path="/x"), sources=Sources())
    world.library.rescan()
    world.done(found("a", "preset", "/x"))
    assert world.child.stops == ["polite"]
    world.library.rescan()
    assert len(world.nursery.children) == 1
    world.end()
    assert len(world.nursery.children) == 2
    assert isinstance(world.child.heard[0], Scan)


def test_a_folder_that_does_not_answer_is_left_out_until_somebody_asks_again() -> None:
    world = World()
    world.library.rescan()
    world.say(Stuck("/dead/a.gguf", "/dead"))
    assert world.child.stops == ["hung"]
    world.end(-9)
    assert world.child.heard[0].skip == ("/dead",)
    world.done()
    world.library.rescan()
    assert world.child.heard[-1].skip == ()


def test_a_child_that_cannot_be_killed_is_replaced() -> None:
    world = World()
    world.library.rescan()
    world.say(Stuck("/dead/a.gguf", "/dead"))
    stuck = world.child
    world.library.unkillable(stuck)
    assert len(world.nursery.children) == 2
    world.library.heard(stuck, Scanned(1, (found("late"),)), [])
    world.library.ended(stuck, Ended(-9, (), ""))
    world.done(found("a"))
    assert set(world.listed[-1]) == {"a"}


def test_a_child_that_dies_comes_back_later_and_not_for_ever() -> None:
    world, answered = World(), list[int]()
    world.library.rescan(lambda: answered.append(1))
    for deaths in range(1, 7):
        world.end(1)
        assert len(world.nursery.children) == deaths
        if (due := world.timers.next()) is not None:
            world.timers.run(due)
    assert answered == [1]
    assert len(world.nursery.children) == 6


def test_a_hung_child_is_killed() -> None:
    world = World()
    world.library.rescan()
    world.library.judged(world.child, Verdict.HUNG, "no pong")
    assert world.child.stops == ["hung"]


def test_measured_memory_replaces_the_estimate_and_is_kept() -> None:
    world = World(Model(name="a", path="/x"), sources=Sources())
    world.library.rescan()
    world.done(found("a", "preset", "/x"))
    world.end()
    measured = Footprint({"ram": 9})
    world.library.remember(world.listed[-1]["a"], measured)
    assert world.listed[-1]["a"].memory == measured
    assert world.child.heard == [Remember("/s", memory_key(world.listed[-1]["a"].model, CARD), measured)]
    assert world.child.stops == ["polite"]
    world.library.remember(world.listed[-1]["a"], measured)
    assert len(world.nursery.children) == 2


def test_what_was_kept_is_known_again() -> None:
    world = World(Model(name="a", path="/x"))
    world.library.rescan()
    key = memory_key(Model(name="a", path="/x"), CARD)
    world.say(Known({key: Footprint({"ram": 3})}, (2**30,)))
    world.done(found("a", "preset", "/x"))
    assert world.listed[-1]["a"].memory == Footprint({"ram": 3})


def test_at_the_end_nobody_waits_and_the_child_goes() -> None:
    world, answered = World(), list[int]()
    world.library.rescan(lambda: answered.append(1))
    world.library.close()
    assert (answered, world.child.stops) == ([1], ["polite"])
    world.library.rescan()
    world.end()
    assert len(world.nursery.children) == 1


# -- the machine ---------------------------------------------------------------------------------------------------


def test_memory_is_that_of_the_machine_within_the_limits_around_us(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroups / "a" / "b").mkdir(parents=True)
    assert machine.ram(proc, cgroups) == 0
    (proc / "meminfo").write_text("MemTotal:        1000 kB\nMemFree: 1 kB\n")
    assert machine.ram(proc, cgroups) == 1000 * 1024
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    (cgroups / "a" / "b" / "memory.max").write_text("max\n")
    assert machine.ram(proc, cgroups) == 1000 * 1024
    (cgroups / "a" / "memory.max").write_text("4096\n")
    assert machine.ram(proc, cgroups) == 4096
