"""Another configuration while the server runs: checked whole, read beside the root's loop, told as a difference."""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor import reload
from supervisor.config import Config, ConfigError, Model
from supervisor.configfile import load
from supervisor.control import Entry, Reloaded
from supervisor.roster import change
from supervisor.timers import Timers

ECHO = 'worker = "tests.echo_worker:main"\n'
BEFORE = f"[models.a]\n{ECHO}[models.b]\n{ECHO}"


def written(folder: Path, text: str) -> str:
    file = folder / "models.toml"
    file.write_text(text)
    return str(file)


def entries(config: Config) -> dict[str, Entry]:
    return {name: Entry(model) for name, model in config.models.items()}


@pytest.mark.parametrize(
    ("text", "table", "key", "said"),
    [
        ("[models.a", "", "", "not TOML"),
        (f"[models.a]\n{ECHO}n_ctx = '8k'", "models.a", "n_ctx", 'expected integer from 0 to 2147483647, got "8k"'),
        (f"{BEFORE}[server]\nlisten = [':1']", "server", "", r"a change of \[server\] needs a restart"),
        (f"{BEFORE}[ui]\nenabled = false", "ui", "", r"a change of \[ui\] needs a restart"),
        (f"{BEFORE}[models.c]\npath = 'none.gguf'", "models.c", "path", "no such file"),
        (f"{BEFORE}[models.c]\n{ECHO}aliases = ['a']", "models.c", "aliases[0]", "has it already"),
        (f"{BEFORE}[[keys]]\nname = 'x'\nsha256 = 'y'", "keys #1", "sha256", "64 digits"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_with_its_place(
    tmp_path: Path, text: str, table: str, key: str, said: str
) -> None:
    before = load(written(tmp_path, BEFORE))
    with pytest.raises(ConfigError, match=said) as caught:
        reload.check(written(tmp_path, text), before)
    assert (caught.value.table, caught.value.key) == (table, key)


@pytest.mark.parametrize(
    "text", ["[log]\nlevel = 'debug'", "[admission]\nmax_queue = 3", f"[[keys]]\nname = 'x'\nsha256 = '{'0' * 64}'"]
)
def test_keys_admission_and_log_are_taken_over(tmp_path: Path, text: str) -> None:
    before = load(written(tmp_path, BEFORE))
    assert len(reload.changed_sections(before, reload.check(written(tmp_path, f"{BEFORE}{text}"), before))) == 1


def test_the_difference_names_each_model_once(tmp_path: Path) -> None:
    old = load(written(tmp_path, f"{BEFORE}[models.gone]\n{ECHO}[models.v]\nbase = 'a'\n"))
    text = f"[models.a]\n{ECHO}n_ctx = 7\n[models.b]\n{ECHO}pin = true\n[models.new]\n{ECHO}[models.v]\nbase = 'b'\n"
    new = load(written(tmp_path, text + "[models.w]\nbase = 'a'\n"))
    found = reload.difference(entries(old), entries(new), old, new, {"a", "b", "gone"})
    assert found == Reloaded(added=("new", "w"), removed=("gone",), changed=("a", "b", "v"), restarting=("a",))
    assert reload.difference(entries(new), entries(new), new, new, {"a"}) == Reloaded()


class World:
    """The root's loop, as far as a reload needs it."""

    def __init__(self, file: str) -> None:
        self.selector, self.timers = selectors.DefaultSelector(), Timers()
        self.config = load(file)
        self.scans: list[Callable[[], None]] = []
        self.told: list[Reloaded] = []
        self.reloads = reload.Reloads(
            self.selector,
            self.timers,
            current=lambda: self.config,
            take=self.take,
            catalog=lambda: entries(self.config),
            running=set,
            rescan=self.scans.append,
        )

    def take(self, config: Config) -> None:
        self.config = config

    def turn(self, fact: Callable[[], Any]) -> None:
        """The loop, until this is true."""
        deadline = time.monotonic() + 90
        while not fact():
            assert time.monotonic() < deadline
            for key, events in self.selector.select(0.1):
                key.data(events)


def test_who_asks_is_answered_when_the_folders_were_looked_through(tmp_path: Path) -> None:
    world = World(written(tmp_path, BEFORE))
    written(tmp_path, BEFORE + f"[models.c]\n{ECHO}")
    world.reloads.ask(world.told.append)
    world.turn(lambda: world.scans)
    assert world.told == []
    world.scans[0]()
    assert world.told == [Reloaded(added=("c",))]


def test_a_scan_that_takes_long_is_not_waited_for(tmp_path: Path) -> None:
    world = World(written(tmp_path, BEFORE))
    world.reloads.ask(world.told.append)
    world.turn(lambda: world.scans)
    world.timers.run(time.monotonic() + 60)
    world.scans[0]()
    assert world.told == [Reloaded(complete=False)]


def test_a_wrong_file_changes_nothing_and_the_next_is_read(tmp_path: Path) -> None:
    world = World(written(tmp_path, BEFORE))
    before = world.config
    written(tmp_path, "[models.a]\nnothing = 1")
    world.reloads.ask(world.told.append)
    world.turn(lambda: world.told)
    assert (world.told[0].table, world.told[0].key, world.config) == ("models.a", "nothing", before)
    written(tmp_path, f"[models.a]\n{ECHO}")
    world.reloads.ask(world.told.append)
    world.turn(lambda: world.scans)
    assert set(world.config.models) == {"a"}


def test_who_asks_during_a_reading_is_answered_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(written(tmp_path, BEFORE))
    for _ in range(3):
        world.reloads.ask(world.told.append)
    world.turn(lambda: len(world.scans) == 2)
    for scan in world.scans:
        scan()
    assert len(world.told) == 3


def test_a_server_that_stops_takes_nothing_over_any_more(tmp_path: Path) -> None:
    world = World(written(tmp_path, BEFORE))
    before = world.config
    written(tmp_path, BEFORE + f"[models.c]\n{ECHO}")
    world.reloads.ask(world.told.append)
    world.reloads.close()
    world.reloads.ask(world.told.append)
    world.turn(lambda: len(world.told) == 2)
    assert all("shutting down" in told.error for told in world.told)
    assert world.config is before


def test_a_file_that_does_not_answer_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(written(tmp_path, BEFORE))
    stuck = threading.Event()
    monkeypatch.setattr(reload, "check", lambda file, before: stuck.wait(90) and before)
    world.reloads.ask(world.told.append)
    world.timers.run(time.monotonic() + 60)
    assert "not read within" in world.told[0].error
    monkeypatch.undo()
    world.reloads.ask(world.told.append)
    world.turn(lambda: world.scans)
    stuck.set()
    assert world.config == load(world.config.file)


@pytest.mark.parametrize(
    ("place", "error"),
    [("socket.socketpair", OSError(24, "Too many open files")), ("threading.Thread.start", RuntimeError("no thread"))],
)
def test_a_root_that_cannot_read_now_says_so_and_reads_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    world = World(written(tmp_path, BEFORE))
    before = world.config

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(place, fail)
        world.reloads.ask(world.told.append)
        world.turn(lambda: world.told)
    assert "cannot be read now" in world.told[0].error
    assert world.config is before
    world.reloads.ask(world.told.append)
    world.turn(lambda: world.scans)


def test_a_model_whose_text_alone_changed_is_not_loaded_again() -> None:
    ways: dict[str, Any] = {"system_prompt": "x", "chat_template_kwargs": {"a": 1}, "idle_timeout": 5.0, "pin": True}
    found = change({"a": Entry(Model(name="a"))}, {"a": Entry(Model(name="a", **ways))})
    assert (found.changed, found.reload) == (["a"], [])
