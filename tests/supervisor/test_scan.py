"""The scan child: what the Librarian finds, and what its main thread does when that hangs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from supervisor import gguf, librarian, process, pulled, scan
from supervisor.control import (  # fmt: skip
    Channel,
    Closed,
    Discard,
    Discarded,
    FolderChanged,
    Footprint,
    Found,
    FromRoot,
    Known,
    Message,
    Ping,
    Pong,
    Remember,
    Scan,
    Scanned,
    Sought,
    Stop,
    Stuck,
    ToRoot,
)
from supervisor.folder_watch import FolderWatch
from supervisor.keepsakes import Keepsakes
from supervisor.librarian import Librarian
from supervisor.scan import Scanner
from tests import models
from tests.e2e.server import until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "llama"))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    shutil.copy(models.tiny(), shelf / "a.gguf")
    return shelf


def found(order: Scan, state: Path, read: Any = gguf.read) -> tuple[dict[str, Found], list[str]]:
    """What a scan finds, and its problems."""
    told: list[Scanned] = []
    Librarian(told.append, Keepsakes(str(state)), None, read).scan(order)
    assert [part.done for part in told] == [False] * (len(told) - 1) + [True]
    listed = {each.model: each for part in told for each in part.found}
    return listed, [problem for part in told for problem in part.problems]


def test_models_are_found_with_their_facts(folder: Path, tmp_path: Path) -> None:
    shutil.copy(models.broken()["cut"], folder / "cut.gguf")
    listed, problems = found(Scan(1, folder=str(folder)), tmp_path / "state")
    assert problems == []
    card = listed["a"].card
    assert (card.architecture, card.file_size) == ("llama", os.path.getsize(folder / "a.gguf"))
    assert (listed["cut"].card.cause, listed["cut"].source) == ("file_corrupt", "models_dir")


def test_headers_are_read_once(folder: Path, tmp_path: Path) -> None:
    read: list[str] = []

    def noted(path: str) -> Any:
        read.append(path)
        return gguf.read(path)

    order = Scan(1, folder=str(folder))
    first = found(order, tmp_path / "state", noted)
    assert found(order, tmp_path / "state", noted) == first
    assert len(read) == 1
    os.utime(folder / "a.gguf")
    found(order, tmp_path / "state", noted)
    assert len(read) == 2


def test_what_the_configuration_names_is_sought(folder: Path, tmp_path: Path) -> None:
    there, gone = Sought("there", str(folder / "a.gguf")), Sought("gone", str(folder / "b.gguf"))
    listed, _ = found(Scan(1, (there, gone, Sought("far", hf="u/r"))), tmp_path)
    assert listed["there"].card.architecture == "llama"
    assert listed["gone"].card.cause == listed["far"].card.cause == "file_missing"
    assert listed["gone"].card.problem == f"no such file: {folder}/b.gguf"


def test_shards_are_read_together_and_a_missing_one_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copy(models.tiny(), folder / "s-00001-of-00002.gguf")
    first = Sought("s", str(folder / "s-00001-of-00002.gguf"))
    assert "s-00002-of-00002.gguf" in found(Scan(1, (first,)), tmp_path)[0]["s"].card.problem
    shutil.copy(models.tiny(), folder / "s-00002-of-00002.gguf")
    assert "incomplete: 2 of its 1 files" in found(Scan(1, (first,)), tmp_path)[0]["s"].card.problem


def test_links_must_not_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "in.gguf").symlink_to(folder / "a.gguf")
    (folder / "out.gguf").symlink_to(models.tiny())
    listed, _ = found(Scan(1, folder=str(folder)), tmp_path / "state")
    assert listed["in"].card.cause == ""
    assert listed["out"].card.cause == "config_error"


def test_a_projector_and_an_adapter_are_no_models(folder: Path, tmp_path: Path) -> None:
    def read(path: str) -> Any:
        header, status = gguf.read(path)
        metadata = {**header.metadata, "general.type": "adapter"}
        return gguf.Header(3, metadata, header.tensors, header.start), status

    assert found(Scan(1, folder=str(folder)), tmp_path / "state", read)[0] == {}


def test_folders_that_did_not_answer_are_left_out(folder: Path, tmp_path: Path) -> None:
    sought = (Sought("a", str(folder / "a.gguf")),)
    listed, problems = found(Scan(1, sought, str(folder), skip=(str(folder),)), tmp_path / "state")
    assert listed["a"].card.cause == "load_error"
    assert problems == [f"{folder}: did not answer, not looked through again"]


def test_what_the_caches_have_is_listed(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "hub" / "models--u--r" / "snapshots" / "x"
    place.mkdir(parents=True)
    shutil.copy(models.tiny(), place / "m-F32.gguf")
    listed, _ = found(Scan(1, (Sought("mine", hf="u/r"),), caches=True), tmp_path / "state")
    assert (listed["u/r:F32"].source, listed["mine"].path) == ("cache", str(place / "m-F32.gguf"))


# -- the main thread -----------------------------------------------------------------------------------------------


class Root:
    """The other end of a Scanner that runs in a thread."""

    def __init__(self, read: Any = None, timeout: float = 15.0) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel: Channel[Any] = Channel(ours, ToRoot)
        self.heard: list[Message] = []
        self.code: list[int] = []
        scanner = Scanner(Channel(theirs, FromRoot), read, timeout)
        self.thread = threading.Thread(target=lambda: self.code.append(scanner.run()), daemon=True)
        self.thread.start()

    def wait(self, kind: type[Message], count: int = 1) -> Any:
        def look() -> Any:
            while (received := self.channel.receive()) is not None:
                self.heard.append(received[0])
            matching = [message for message in self.heard if isinstance(message, kind)]
            return matching[count - 1] if len(matching) >= count else None

        return until(look, what=kind.__name__)

    def stop(self) -> int:
        self.channel.send(Stop(1.0))
        self.thread.join(90)
        self.channel.close()
        return self.code[0]


def test_a_scan_is_answered_and_pings_are_meanwhile(folder: Path, tmp_path: Path) -> None:
    release = threading.Event()

    def slow(path: str) -> Any:
        assert release.wait(90)
        return gguf.read(path)

    root = Root(slow)
    root.channel.send(Scan(7, folder=str(folder), state=str(tmp_path / "state")))
    root.channel.send(Ping(3))
    assert root.wait(Pong).number == 3
    release.set()
    assert root.wait(Scanned).number == 7
    assert isinstance(root.heard[1], Known)
    assert root.stop() == 0


def test_a_changed_folder_is_told_once_it_is_quiet(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Root()
    root.channel.send(Scan(1, folder=str(folder), state=str(tmp_path / "state")))
    assert root.wait(Scanned).done
    monkeypatch.setattr(scan, "_QUIET", 1000.0)  # it is not, however long the next lines take
    for number in range(5):
        (folder / f"{number}.gguf").touch()
        root.channel.send(Ping(number))
        root.wait(Pong, number + 1)
    assert not any(isinstance(message, FolderChanged) for message in root.heard)
    monkeypatch.setattr(scan, "_QUIET", 0.05)
    root.channel.send(Ping(5))
    root.wait(FolderChanged)
    assert root.stop() == 0
    assert sum(isinstance(message, FolderChanged) for message in root.heard) == 1


def test_what_does_not_answer_is_told_and_ends_the_process(folder: Path, tmp_path: Path) -> None:
    child = process.start("tests.children:stuck_scan", "scan")
    try:
        child.channel.send(Scan(1, folder=str(folder), state=str(tmp_path / "state")))
        heard: list[Any] = []

        def stuck() -> Any:
            try:
                while (received := child.channel.receive()) is not None:
                    heard.append(received[0])
            except Closed:
                pass
            return next((message for message in heard if isinstance(message, Stuck)), None)

        told = until(stuck, what="Stuck")
        assert (told.path, told.folder) == (str(folder / "a.gguf"), str(folder))
        assert child.gone_within(90)
        assert child.reap() == 1
    finally:
        child.signal(signal.SIGKILL)
        child.close()


def test_memory_is_kept_before_the_end(tmp_path: Path) -> None:
    root = Root()
    root.channel.send(Remember(str(tmp_path / "state"), "key", Footprint({"ram": 5})))
    assert root.stop() == 0
    assert Keepsakes(str(tmp_path / "state")).memory == {"key": Footprint({"ram": 5})}


def test_a_bug_in_the_thread_ends_the_process_with_it(folder: Path, tmp_path: Path) -> None:
    def bug(path: str) -> Any:
        raise ZeroDivisionError

    root = Root.__new__(Root)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root.channel = Channel(ours, ToRoot)
    root.channel.send(Scan(1, folder=str(folder), state=str(tmp_path / "state")))
    with pytest.raises(ZeroDivisionError):
        Scanner(Channel(theirs, FromRoot), bug).run()
    root.channel.close()


def test_the_watch_sees_what_comes_and_goes(tmp_path: Path) -> None:
    watch = FolderWatch()
    watch.add([str(tmp_path)])
    with pytest.raises(BlockingIOError):
        os.read(watch.fileno(), 100)
    (tmp_path / "x").touch()
    watch.drain()
    (tmp_path / "x").unlink()
    assert os.read(watch.fileno(), 1000)
    with pytest.raises(FileNotFoundError):
        watch.add([str(tmp_path / "none")])
    watch.close()


def test_batches_do_not_grow_without_bound(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librarian, "_BATCH", 2)
    for number in range(5):
        os.link(folder / "a.gguf", folder / f"{number}.gguf")
    told: list[Scanned] = []
    Librarian(told.append, Keepsakes(str(tmp_path / "s")), None).scan(Scan(1, folder=str(folder)))
    assert max(len(part.found) for part in told) <= 2
    assert sum(len(part.found) for part in told) == 6


def test_of_the_cache_only_what_was_fetched_here_is_listed_unless_all_of_it_is(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--u--r" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for quant in ("Q4_0", "Q8_0"):
        shutil.copy(models.tiny(), snapshot / f"m-{quant}.gguf")
    state = str(tmp_path / "state")
    pulled.add(state, "u/r:Q8_0")
    assert set(found(Scan(1, state=state), tmp_path / "state")[0]) == {"u/r:Q8_0"}
    assert set(found(Scan(1, caches=True, state=state), tmp_path / "state")[0]) == {"u/r:Q4_0", "u/r:Q8_0"}


def test_files_of_the_cache_are_deleted_on_order_and_what_cannot_be_is_told(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--u--r" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    model = shutil.copy(models.tiny(), snapshot / "m-Q8_0.gguf")
    state = str(tmp_path / "state")
    pulled.add(state, "u/r:Q8_0")
    work = Librarian(lambda _: None, Keepsakes(state), None)
    assert work.discard(Discard("u/r:Q8_0", (str(model),), (), state)) == Discarded("u/r:Q8_0")
    assert not snapshot.exists()
    assert pulled.names(state) == set()
    mine = str(folder / "a.gguf")
    assert work.discard(Discard("x", (mine,), (), state)).problem == f"{mine}: is in no cache"
    assert os.path.exists(mine)
