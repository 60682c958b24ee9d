"""States of slots through the engine, on a tiny model of every class: saved, restored, erased, and refused."""

from __future__ import annotations

import errno
import os
import queue
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.config import Sampling
from tests import adapters, model_classes, models
from tests.worker.rig import PATIENCE
from tests.worker.test_engine import Bench
from worker import park_image, slots
from worker.clerk import Clerk
from worker.parked import Parked
from worker.protocol import Event, Failed, SlotAction, SlotDone, Text
from worker.seams import Drop, Filing, Leave, Order
from worker.slot_files import SlotFiles
from worker.slots import Slots

STORY = "A long story about a fox, a dog and a hen that lived beside the old mill near the river. " * 5
FOX, HEN = STORY + " The fox said", STORY + " The hen said"
LONG = 40  # tokens: a shorter end of a conversation is given up where another one parts from it
GREEDY = Sampling(temperature=0.0, max_tokens=LONG, ignore_eos=True)
FOREVER = Sampling(temperature=0.0, max_tokens=400, ignore_eos=True)
PRINT = b"the model"


class Desk:
    """What stands around an engine: an inbox, and the clerk that it has; `answers` are what a link would get."""

    def __init__(self, bench: Bench, folder: Path, fingerprint: bytes = PRINT, name: str = "m") -> None:
        self.bench, self.inbox, self.number = bench, queue.SimpleQueue[Order](), 10_000
        self.answers: queue.SimpleQueue[Event] = queue.SimpleQueue()
        engine, memory = bench.engine, bench.model._context.memory
        self.clerk = Clerk(
            Slots(engine.pool, engine.parking, memory), SlotFiles(str(folder), fingerprint, name), self.inbox, self
        )
        engine.clerk = self.clerk

    def put(self, link: int, events: Sequence[Event]) -> None:
        for event in events:
            self.answers.put(event)

    def backlog(self, link: int) -> int:
        return 0

    def ask(self, action: Any, slot: int = 0, name: str = "story.bin") -> tuple[int, int]:
        """Begins; the key."""
        self.number += 1
        key = (1, self.number)
        self.bench.engine.obey(Filing(key, SlotAction(self.number, "r", slot, action, name)))
        return key

    def pump(self) -> Event:
        """Carries out errands, a step between each two of them, until there is an answer."""
        while self.answers.empty():
            try:
                self.bench.engine.obey(self.inbox.get(timeout=0.01))
            except queue.Empty:
                pass
            self.bench.engine.step()
        return self.answers.get()

    def do(self, action: Any, slot: int = 0, name: str = "story.bin") -> SlotDone:
        self.ask(action, slot, name)
        event = self.pump()
        assert isinstance(event, SlotDone), event
        return event

    def refused(self, action: Any, slot: int = 0, name: str = "story.bin") -> Failed:
        self.ask(action, slot, name)
        event = self.pump()
        assert isinstance(event, Failed), event
        return event


@pytest.fixture(scope="module", params=model_classes.NAMES)
def any_class(request: pytest.FixtureRequest) -> Bench:
    return Bench(model_classes.path(request.param), n_ctx=1024, kv="f16", flash_attention="off")


@pytest.fixture(scope="module")
def plain() -> Bench:
    return Bench(model_classes.path("gqa"), n_ctx=1024, parallel=2, kv="f16", flash_attention="off")


@pytest.fixture
def bench(any_class: Bench) -> Iterator[Bench]:
    any_class.new()
    yield any_class
    assert not any_class.engine.pool.live, "a sequence was not given back"


@pytest.fixture
def desk(plain: Bench, tmp_path: Path) -> Iterator[Desk]:
    plain.new()
    yield Desk(plain, tmp_path)
    assert not plain.engine.pool.live, "a sequence was not given back"


def alone(bench: Bench, prompt: str) -> str:
    bench.new()
    return bench.reply(prompt, GREEDY)


def length(bench: Bench, prompt: str) -> int:
    return len(bench.model.text.prompt(Text((prompt,))))


def slot_of(bench: Bench, prompt: str, **keys: Any) -> int:
    """Runs it; the slot where it ran."""
    from worker.protocol import Started

    id = bench.start(prompt, GREEDY, **keys)
    bench.run()
    (started,) = [event for event in bench.events if isinstance(event, Started) and event.id == id]
    return started.slot


def goes_on(bench: Bench, prompt: str, expected: str, **keys: Any) -> int:
    """The same prompt once more says the same; how much of it was in the cache."""
    id = bench.start(prompt, GREEDY, **keys)
    bench.run()
    assert bench.text(id) == expected
    return bench.cached(id)


# -- every class --------------------------------------------------------------------------------------------------


def test_a_saved_slot_goes_on_in_another_worker(bench: Bench, tmp_path: Path) -> None:
    expected = alone(bench, FOX)
    bench.new()
    slot = slot_of(bench, FOX)
    saved = Desk(bench, tmp_path).do("save", slot)
    assert saved.tokens == length(bench, FOX) + LONG - 1
    assert saved.size == (tmp_path / "story.bin").stat().st_size
    bench.new()
    restored = Desk(bench, tmp_path).do("restore", 1)
    assert (restored.tokens, restored.size) == (saved.tokens, saved.size)
    assert goes_on(bench, FOX, expected) >= length(bench, FOX) - 5


def test_the_next_turn_of_a_restored_conversation_computes_what_is_new(bench: Bench, tmp_path: Path) -> None:
    second = FOX + alone(bench, FOX) + " And then?"
    expected = alone(bench, second)
    bench.new()
    Desk(bench, tmp_path).do("save", slot_of(bench, FOX))
    bench.new()
    Desk(bench, tmp_path).do("restore", 0)
    assert goes_on(bench, second, expected) >= length(bench, second) - len(" And then?") - 6


def test_a_slot_that_made_room_is_saved_from_the_park(bench: Bench, tmp_path: Path) -> None:
    expected = alone(bench, FOX)
    bench.new(Parked(2**30, exact=bench.model._context.memory.exact))
    slot = slot_of(bench, FOX)
    assert bench.engine.pool.evict_all()
    assert Desk(bench, tmp_path).do("save", slot).tokens == length(bench, FOX) + LONG - 1
    bench.new()
    Desk(bench, tmp_path).do("restore", 0)
    assert goes_on(bench, FOX, expected) >= length(bench, FOX) - 5


def test_an_erased_slot_is_computed_again(bench: Bench, tmp_path: Path) -> None:
    expected = alone(bench, FOX)
    bench.new(Parked(2**30, exact=bench.model._context.memory.exact))
    desk, slot = Desk(bench, tmp_path), slot_of(bench, FOX)
    bench.engine.parking.save_all(2**40)
    assert desk.do("erase", slot).tokens == length(bench, FOX) + LONG - 1
    assert goes_on(bench, FOX, expected) == 0
    assert desk.do("erase", 3).tokens == 0


def test_a_conversation_that_runs_beside_says_the_same(bench: Bench, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(slots, "PART", 1)  # each segment between two steps of its own
    expected, other = alone(bench, FOX), alone(bench, HEN)
    bench.new()
    desk, slot = Desk(bench, tmp_path), slot_of(bench, FOX)
    for action in ("save", "erase", "restore"):
        beside = bench.start(HEN, GREEDY, slot=slot + 1)
        bench.engine.step()
        desk.do(action, slot)
        bench.run()
        assert bench.text(beside) == other
    assert goes_on(bench, FOX, expected) >= length(bench, FOX) - 5


def test_the_real_model_goes_on_exactly(smollm: Bench, tmp_path: Path) -> None:
    expected = alone(smollm, FOX)
    smollm.new()
    Desk(smollm, tmp_path).do("save", slot_of(smollm, FOX))
    smollm.new()
    Desk(smollm, tmp_path).do("restore", 0)
    assert goes_on(smollm, FOX, expected) >= length(smollm, FOX) - 1


# -- which slot ---------------------------------------------------------------------------------------------------


def test_slots_are_saved_and_erased_each_by_itself(desk: Desk) -> None:
    bench = desk.bench
    assert (slot_of(bench, FOX), slot_of(bench, HEN, slot=1)) == (0, 1)
    desk.do("save", 0, "fox.bin")
    desk.do("save", 1, "hen.bin")
    fox = length(bench, FOX)
    assert desk.do("erase", 0).tokens == fox + LONG - 1
    again = bench.start(HEN, GREEDY)
    bench.run()
    assert bench.cached(again) == length(bench, HEN) - 1  # the other slot is as it was
    assert desk.do("restore", 0, "hen.bin").tokens == length(bench, HEN) + LONG - 1
    assert desk.do("save", 0, "again.bin").tokens == length(bench, HEN) + LONG - 1


def test_a_slot_in_use_is_busy_for_each_action(desk: Desk) -> None:
    bench = desk.bench
    desk.do("save", slot_of(bench, FOX))
    id = bench.start(HEN, FOREVER, slot=0)
    bench.engine.step()
    for action in ("save", "restore", "erase"):
        assert desk.refused(action).code == "sequence_busy"
    bench.engine.obey(Drop((1, id)))
    assert desk.do("restore").tokens


def test_a_slot_without_a_state_is_not_saved_over_a_good_one(desk: Desk, tmp_path: Path) -> None:
    desk.do("save", slot_of(desk.bench, FOX))
    before = (tmp_path / "story.bin").read_bytes()
    failed = desk.refused("save", 1)
    assert (failed.code, "holds nothing" in failed.message) == ("invalid_value", True)
    desk.bench.engine.pool.evict_all()
    assert "any more" in desk.refused("save", 0).message
    assert (tmp_path / "story.bin").read_bytes() == before


def test_without_cache_prompt_there_is_nothing_to_save(desk: Desk) -> None:
    desk.bench.start(FOX, GREEDY, cache_prompt=False, slot=1)
    desk.bench.run()
    assert "holds nothing" in desk.refused("save", 1).message


def test_what_is_in_the_cache_anyway_is_not_loaded_twice(desk: Desk) -> None:
    desk.do("save", slot_of(desk.bench, FOX))
    cells = desk.bench.engine.pool.tree.cells
    desk.do("restore", 1)
    assert desk.bench.engine.pool.tree.cells == cells


def test_a_request_waits_while_the_only_free_lane_comes_back_and_burns_nothing(tmp_path: Path) -> None:
    bench = Bench(models.tiny(), n_ctx=256, parallel=1)
    desk = Desk(bench, tmp_path)
    desk.do("save", slot_of(bench, "abcdefgh" * 8))
    bench.new()
    desk = Desk(bench, tmp_path)
    desk.ask("restore")
    while not desk.clerk.returning:
        bench.engine.obey(desk.inbox.get(timeout=PATIENCE))
    id = bench.start("other", GREEDY)
    bench.engine.step()
    assert not bench.engine.running
    assert bench.engine._idle
    assert isinstance(desk.pump(), SlotDone)
    bench.run()
    assert bench.end(id)


@pytest.mark.parametrize("kind", ["gqa", "hybrid"])
def test_a_slot_comes_back_for_the_adapters_that_computed_it_and_for_no_others(kind: str, tmp_path: Path) -> None:
    base, dressed = model_classes.path(kind), ((0, 1.0),)
    bench = Bench(base, n_ctx=1024, lora=(adapters.lora(base, 1),))
    bench.new(Parked(2**30, exact=bench.model._context.memory.exact))
    bare, expected = bench.reply(FOX, GREEDY, lora=()), bench.reply(FOX, GREEDY, lora=dressed)
    assert bare != expected
    bench.new()
    desk, slot = Desk(bench, tmp_path), slot_of(bench, FOX, lora=dressed)
    desk.do("save", slot)
    assert desk.do("erase", slot).tokens == length(bench, FOX) + LONG - 1
    desk.do("restore", 2)
    assert goes_on(bench, FOX, bare, lora=()) == 0
    assert goes_on(bench, FOX, expected, lora=dressed) >= length(bench, FOX) - 5


# -- room ---------------------------------------------------------------------------------------------------------


def test_where_others_run_a_slot_that_does_not_fit_is_refused_and_one_that_comes_back_gives_way(tmp_path: Path) -> None:
    bench = Bench(model_classes.path("gqa"), n_ctx=512, kv_cells=512, parallel=2, kv="f16", flash_attention="off")
    desk = Desk(bench, tmp_path)
    desk.do("save", slot_of(bench, STORY[:300]))
    bench.new()
    desk = Desk(bench, tmp_path)
    id = bench.start("x" * 60, FOREVER, slot=1)
    bench.engine.step()
    assert desk.refused("restore").code == "no_slot_available"  # its own room, and some for who runs
    bench.engine.obey(Drop((1, id)))
    bench.engine.step()
    desk.ask("restore")
    while not desk.clerk.returning:
        bench.engine.obey(desk.inbox.get(timeout=PATIENCE))
    big = bench.start("y" * 200, GREEDY, slot=1)
    while not bench.text(big):
        bench.engine.step()  # nothing of what comes back is there yet: it is in nobody's way
    assert bench.engine._interrupt_one()
    failed = desk.pump()
    assert isinstance(failed, Failed)
    assert failed.code == "no_slot_available"
    bench.run()
    assert bench.end(big).reason == "limit"
    assert not bench.engine.pool.live


def test_more_tokens_than_a_slot_has_are_refused(desk: Desk, tmp_path: Path) -> None:
    desk.do("save", slot_of(desk.bench, FOX))
    small = Bench(model_classes.path("gqa"), n_ctx=256, kv="f16", flash_attention="off")
    failed = Desk(small, tmp_path).refused("restore")
    assert failed.code == "invalid_value"
    assert "256" in failed.message


# -- files --------------------------------------------------------------------------------------------------------


def untouched(desk: Desk, name: str = "story.bin", slot: int = 1) -> Failed:
    """A restore that is refused, and leaves the cache as it was."""
    before = desk.bench.engine.pool.tree.cells, desk.bench.engine.pool.kept
    failed = desk.refused("restore", slot, name)
    assert (desk.bench.engine.pool.tree.cells, desk.bench.engine.pool.kept) == before
    return failed


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_damaged_or_cut_file_changes_nothing(desk: Desk, tmp_path: Path, part: float) -> None:
    desk.do("save", slot_of(desk.bench, FOX))
    desk.do("erase")
    file = tmp_path / "story.bin"
    whole = file.read_bytes()
    place = int(len(whole) * part)
    for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
        file.write_bytes(damaged)
        failed = untouched(desk)
        assert failed.code == "invalid_value"
        assert "damaged" in failed.message
    file.write_bytes(whole)
    assert desk.do("restore").tokens


def test_a_file_of_another_model_or_of_other_settings_is_told_by_its_name(desk: Desk, tmp_path: Path) -> None:
    bench = desk.bench
    desk.do("save", slot_of(bench, FOX))
    other = Desk(bench, tmp_path, b"another", "n")
    assert "of the model m, not of n" in untouched(other).message
    assert "is not replaced" in other.refused("save", 0).message
    changed = Desk(bench, tmp_path, b"another", "m")
    assert "other settings" in untouched(changed).message
    assert changed.do("save", 0).tokens  # its own: the old one is of no use any more
    bench.engine.clerk = None


def test_only_a_file_of_the_folder_is_opened_and_only_a_saved_slot_replaced(desk: Desk, tmp_path: Path) -> None:
    slot_of(desk.bench, FOX)
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "inside"
    folder.mkdir()
    inside = Desk(desk.bench, folder)
    inside.do("save", 0, "good.bin")
    (folder / "good.bin").rename(tmp_path / "outside" / "good.bin")
    (folder / "link.bin").symlink_to(tmp_path / "outside" / "good.bin")
    os.mkfifo(folder / "pipe.bin")
    (folder / "folder.bin").mkdir()
    (folder / "notes.bin").write_text("mine")
    for name, reason in [
        ("link.bin", "link"),
        ("pipe.bin", "no file"),
        ("folder.bin", ""),
        ("notes.bin", "no saved slot"),
    ]:
        for action in ("restore", "save"):
            failed = inside.refused(action, 0, name)
            assert failed.code in ("invalid_value", "storage_failed")
            assert reason in failed.message
    assert (folder / "notes.bin").read_text() == "mine"
    assert inside.refused("restore", 0, "nothing.bin").code == "not_found"


def test_a_file_is_its_owners_alone_and_nothing_else_is_left(desk: Desk, tmp_path: Path) -> None:
    desk.do("save", slot_of(desk.bench, FOX))
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_old_file_and_no_other(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    desk.do("save", slot_of(desk.bench, FOX))
    before = (tmp_path / "story.bin").read_bytes()

    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(park_image.os if call == "write" else os, call, refuse)
        failed = desk.refused("save")
    assert failed.code == "storage_failed"
    assert os.strerror(number) in failed.message
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]
    assert desk.do("save").tokens


def test_a_folder_that_is_gone_is_told(desk: Desk, tmp_path: Path) -> None:
    slot_of(desk.bench, FOX)
    gone = Desk(desk.bench, tmp_path / "gone")
    assert "folder" in gone.refused("save").message


def test_what_a_killed_worker_left_goes_and_what_another_writes_stays(desk: Desk, tmp_path: Path) -> None:
    slot_of(desk.bench, FOX)
    old, fresh = tmp_path / ".0123.part", tmp_path / ".4567.part"
    for file in (old, fresh):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    desk.do("save")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".4567.part", "story.bin"]


# -- ends ---------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_undoes_it(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PART", 1)
    desk.do("save", slot_of(desk.bench, FOX))
    desk.do("erase")
    key = desk.ask("restore")
    while not desk.clerk.returning:
        desk.bench.engine.obey(desk.inbox.get(timeout=PATIENCE))
    desk.bench.engine.obey(Drop(key))
    assert desk.do("save", slot_of(desk.bench, HEN), "other.bin").tokens  # it comes after that in the clerk's order
    assert not desk.clerk.returning
    assert desk.answers.empty()
    assert not len(desk.bench.engine.pool.lanes.text(0))  # it has not come back


def test_leaving_ends_what_is_not_done(desk: Desk) -> None:
    slot_of(desk.bench, FOX)
    key = desk.ask("save")
    desk.bench.events.clear()
    desk.bench.engine.obey(Leave(0.0))
    desk.bench.engine.step()
    assert [(event.id, event.code) for event in desk.bench.events if isinstance(event, Failed)] == [
        (key[1], "model_unloaded")
    ]


def test_too_many_that_wait_are_refused(desk: Desk) -> None:
    for _ in range(64):
        desk.ask("erase", 1)
    event = desk.refused("erase", 1)
    assert event.code == "queue_full"
    for _ in range(64):
        assert isinstance(desk.pump(), SlotDone)


def test_a_worker_without_a_folder_says_so(plain: Bench) -> None:
    plain.new()
    plain.events.clear()
    plain.engine.obey(Filing((1, 5), SlotAction(5, "r", 0, "save", "x")))
    plain.engine.step()
    (event,) = plain.events
    assert isinstance(event, Failed)
    assert (event.id, event.code) == (5, "unsupported_feature")
