"""Downloads and removals as the root sees them: the children, the fleet's states, the answers. No file is touched."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from supervisor import config
from supervisor.card import Card
from supervisor.control import (
    Answer,
    Downloaded,
    DownloadFailed,
    Entry,
    Fetched,
    ModelCommand,
    Planned,
    Unlisted,
)
from supervisor.control import State as S
from supervisor.downloads import Downloads
from supervisor.nursery import Ended
from supervisor.removals import Removals
from supervisor.store import take_token
from tests.supervisor.test_fleet import World

NAME = "u/r:Q4_K_M"
FILES = {"http://hub/f": (0, 10)}
MISSING = Card(cause="file_missing", problem="not there")


class Nursery:
    """Children that a test speaks for."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.stopped: list[Any] = []

    def start(self, entry: str, role: str, owner: Any) -> Any:
        self.started.append(ward := type("Ward", (), {"role": role})())
        return ward

    def send(self, ward: Any, message: Any) -> None:
        ward.order = message

    def stop(self, ward: Any, how: object) -> None:
        self.stopped.append(ward)


class Depot:
    """A fleet with downloads and removals, and a library that a test speaks for."""

    def __init__(self, *entries: Entry) -> None:
        self.world, self.nursery, self.state = World(), Nursery(), "/state"
        self.entries = {entry.model.name: entry for entry in (*self.world.fleet.catalog.values(), *entries)}
        self.scans: list[Any] = []
        self.discards: list[Any] = []
        self.answers: list[Answer] = []
        self.downloads = Downloads(self.nursery, self.world.fleet, self, "secret")  # type: ignore[arg-type]
        self.removals = Removals(self.world.fleet, self, self.downloads)
        self.world.fleet.store = self  # type: ignore[assignment]
        self.world.fleet.adopt(dict(self.entries))

    # what the fleet needs of a store
    def obey(self, command: ModelCommand, reply: Any) -> None:
        (self.downloads.pull if command.verb == "pull" else self.removals.remove)(command, reply)

    def files(self, name: str) -> Any:
        return self.downloads.files(name)

    def cancel(self, name: str) -> None:
        self.downloads.cancel(name)

    def wanted(self, entry: Entry) -> None: ...

    def gone(self, name: str) -> None:
        self.removals.gone(name)

    # what downloads and removals need of a library
    def expect(self, name: str) -> None:
        self.list(Entry(config.Model(name=name), "cache", pending=True))

    def expected_no_more(self, name: str) -> None:
        if self.entries[name].pending:
            self.condemn(name)

    def condemn(self, name: str) -> None:
        self.entries.pop(name)
        self.world.fleet.adopt(dict(self.entries))

    def pardon(self, name: str) -> None: ...

    def discard(self, *order: Any) -> None:
        self.discards.append(order)

    def rescan(self, done: Any = None) -> None:
        self.scans.append(done)

    # what a test does
    def list(self, entry: Entry) -> None:
        self.entries[entry.model.name] = entry
        self.world.fleet.adopt(dict(self.entries))

    def ask(self, verb: str, model: str = "u/r") -> None:
        self.obey(ModelCommand(1, verb, model, True), self.answers.append)
        self.world.fleet.settle()

    def hear(self, *messages: Any, child: int = -1) -> None:
        for message in messages:
            self.downloads.heard(self.nursery.started[child], message, [])

    def end(self, code: int = 0, child: int = -1) -> None:
        self.downloads.ended(self.nursery.started[child], Ended(code, ("last words",), ""))
        self.world.fleet.settle()

    @property
    def code(self) -> str:
        return self.answers[-1].error


def cached(name: str = NAME, **more: Any) -> Entry:
    return Entry(config.Model(name=name, path=f"/hub/{name}.gguf"), "cache", Card(architecture="llama"), **more)


def test_a_new_model_is_listed_once_its_files_are_known_and_answered_then() -> None:
    depot = Depot()
    depot.ask("pull")
    assert depot.answers == []
    assert (depot.nursery.started[0].order.spec, depot.nursery.started[0].order.token) == ("u/r", "secret")
    depot.hear(Planned(NAME, FILES))
    assert depot.answers == [Answer(1, model=NAME)]
    assert depot.world.state(NAME) is S.DOWNLOADING
    depot.hear(Fetched({"http://hub/f": (5, 10)}))
    (status,) = [each for each in depot.world.fleet.statuses() if each.name == NAME]
    assert (status.files, status.progress) == ({"http://hub/f": (5, 10)}, 0.5)
    depot.hear(Downloaded())
    depot.end()
    assert depot.world.state(NAME) is S.DOWNLOADING  # until a scan has found it
    depot.list(cached())
    depot.scans[0]()
    assert depot.world.state(NAME) is S.UNLOADED


def test_files_that_no_scan_finds_are_no_model() -> None:
    depot = Depot()
    depot.ask("pull")
    depot.hear(Planned(NAME, FILES), Downloaded())
    depot.end()
    depot.scans[0]()
    depot.world.fleet.settle()
    assert depot.world.last(Unlisted).model == NAME


@pytest.mark.parametrize("error", [DownloadFailed("repo_not_found", "none"), None])
def test_a_refusal_or_a_death_before_the_plan_is_the_answer(error: DownloadFailed | None) -> None:
    depot = Depot()
    depot.ask("pull")
    depot.hear(*([error] if error else []))
    depot.end(1)
    assert depot.code == ("repo_not_found" if error else "download_failed")
    assert NAME not in depot.entries


def test_what_is_there_or_on_its_way_is_not_fetched_again() -> None:
    depot = Depot(cached())
    depot.ask("pull", NAME)
    depot.ask("pull", "a")
    assert [answer.error for answer in depot.answers] == ["model_exists"] * 2
    assert depot.nursery.started == []
    depot.ask("pull")
    depot.hear(Planned(NAME, FILES))  # the hub's choice is there already
    assert (depot.code, depot.answers[-1].model) == ("model_exists", NAME)
    assert depot.nursery.stopped == depot.nursery.started
    depot.end()
    depot.ask("pull", "u/x")
    depot.ask("pull", "U/X")
    assert depot.code == "model_exists"
    assert depot.world.state(NAME) is S.UNLOADED


def test_two_names_of_one_model_are_one_download() -> None:
    depot = Depot()
    depot.ask("pull")
    depot.ask("pull", NAME)
    depot.hear(Planned(NAME, FILES), child=0)
    depot.hear(Planned(NAME, FILES), child=1)
    assert [answer.error for answer in depot.answers] == ["model_exists", ""]
    assert depot.nursery.stopped == depot.nursery.started[:1]
    assert depot.world.state(NAME) is S.DOWNLOADING


def test_a_model_of_the_configuration_is_fetched_under_its_own_name() -> None:
    mine = Entry(config.Model(name="mine", hf=NAME, aliases=("m",)), "preset", MISSING)
    depot = Depot(mine)
    for asked in ("m", "u/r:q4_k_m"):
        depot.ask("pull", asked)
        assert depot.world.state("mine") is S.DOWNLOADING
        assert depot.nursery.started[-1].order.spec == NAME
        depot.hear(Planned(NAME, FILES), DownloadFailed("download_failed", "no room"))
        depot.end()
        (status,) = [each for each in depot.world.fleet.statuses() if each.name == "mine"]
        assert (status.state, status.cause, status.message) == (S.FAILED, "download_error", "no room")


def test_one_that_is_unloaded_while_it_is_fetched_is_cancelled() -> None:
    depot = Depot()
    depot.ask("pull")
    depot.hear(Planned(NAME, FILES))
    depot.world.say(ModelCommand(2, "unload", NAME))
    assert depot.nursery.stopped == depot.nursery.started
    depot.end(-9)
    assert depot.world.last(Unlisted).model == NAME


def test_a_running_model_drains_before_its_files_go() -> None:
    depot = Depot(cached(), msgspec.structs.replace(cached("u/r:Q8_0"), memory=None))
    depot.world.load(NAME)
    depot.ask("remove", NAME)
    assert (depot.world.state(NAME), depot.discards) == (S.DRAINING, [])
    depot.world.fleet._machines.drained(NAME)
    depot.world.ended(NAME)
    ((name, paths, keep, done),) = depot.discards
    assert (name, paths) == (NAME, (f"/hub/{NAME}.gguf",))
    assert "/hub/u/r:Q8_0.gguf" in keep
    assert depot.answers == []
    done("")
    depot.scans[-1]()
    assert depot.answers == [Answer(1)]


@pytest.mark.parametrize(("model", "code"), [("a", "not_removable"), ("none", "model_not_found")])
def test_only_what_is_in_the_cache_can_be_removed(model: str, code: str) -> None:
    depot = Depot()
    depot.ask("remove", model)
    assert depot.code == code
    assert depot.discards == []


def test_files_that_cannot_be_deleted_are_told() -> None:
    depot = Depot(cached())
    depot.ask("remove", NAME)
    depot.discards[0][3]("read-only file system")
    depot.scans[-1]()
    assert depot.code == "not_removable"
    assert "read-only file system" in depot.answers[-1].message


def test_the_token_leaves_the_environment() -> None:
    environment = {"HF_TOKEN": " hf_x ", "HUGGING_FACE_HUB_TOKEN": "old", "HOME": "/"}
    assert take_token(environment) == "hf_x"
    assert environment == {"HOME": "/"}
