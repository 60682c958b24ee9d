"""The root's edges to the world: ring, log, listening sockets, service manager."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import listeners, log, ring
from supervisor.log import facts
from supervisor.notify import Notifier


@given(st.lists(st.binary(max_size=30_000), max_size=12))
def test_the_ring_holds_exactly_the_last_bytes(chunks: list[bytes]) -> None:
    fd = ring.create()
    try:
        writer = ring.Writer(fd)
        for chunk in chunks:
            writer.write(chunk)
        whole = b"".join(chunks)
        assert ring.read(fd) == whole[-(ring.SIZE - 8) :]
    finally:
        os.close(fd)


@given(st.lists(st.binary(max_size=30_000), max_size=12))
def test_a_reader_goes_on_where_it_was(chunks: list[bytes]) -> None:
    fd = ring.create()
    try:
        writer, position = ring.Writer(fd), 0
        for chunk in chunks:
            writer.write(chunk)
            fresh, position = ring.since(fd, position)
            assert fresh == chunk
        assert ring.since(fd, position + 1)[0] == ring.read(fd)  # a position of another ring's
    finally:
        os.close(fd)


def test_the_ring_cannot_be_shrunk_under_its_reader() -> None:
    fd = ring.create()
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_a_ring_of_garbage_reads_as_harmless_text() -> None:
    fd = ring.create()
    os.pwrite(fd, b"\xff" * 16 + b"a\x1b[31mb\nlast\n", 0)
    assert ring.tail(fd, 1)
    assert all(char.isprintable() for line in ring.tail(fd, 50) for char in line)
    os.close(fd)


def test_facts_are_quoted_and_empty_ones_left_out() -> None:
    assert facts(model="a", why="two words", none=None, empty="", n=0) == 'model=a why="two words" n=0'


def test_a_log_line_stays_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    from supervisor import log

    before = logging.getLogger().handlers[:]
    try:
        log.setup("root")
        logging.getLogger("x").warning("evil\x1b[2Jname\nsecond")
    finally:
        logging.getLogger().handlers[:] = before
    text = capfd.readouterr().err
    assert "\\x1b[2Jname ⏎ second" in text
    assert text.count("\n") == 1


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(listeners.ListenError, match=f"cannot listen on 127.0.0.1:{port}: the address is in use"):
            listeners.open_all([f"127.0.0.1:{port}"])


def test_several_addresses_of_both_kinds_and_a_socket_file_left_by_the_dead(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    opened = listeners.open_all(["127.0.0.1:0", f"unix:{path}"])
    assert [listeners.shown(sock).partition(":")[0] for sock in opened.sockets] == ["http", "unix"]
    with socket.create_connection(opened.sockets[0].getsockname()):
        pass
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    with pytest.raises(listeners.ListenError, match="in use"):
        listeners.open_all([f"unix:{path}"])
    opened.close()
    assert not os.path.exists(path)


def test_a_file_in_the_way_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(listeners.ListenError):
        listeners.open_all([f"unix:{path}"])
    assert path.read_text() == "data"


def test_the_service_manager_hears_and_children_cannot_speak_for_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    notifier = Notifier()
    assert notifier.watchdog_interval == 15.0
    assert "NOTIFY_SOCKET" not in os.environ
    notifier.send(READY=1, STATUS="serving")
    assert manager.recv(100) == b"READY=1\nSTATUS=serving"
    manager.close()
    notifier.send(STOPPING=1)  # the manager is gone: nothing happens


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.send(READY=1)
    assert notifier.watchdog_interval is None


def test_lines_beyond_the_rate_are_dropped_and_their_number_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    handler = log._Stderr("test")
    monkeypatch.setattr(handler, "_fd", out)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    log.configure("info", "text", rate=0.001, burst=3)
    for number in range(10):
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, f"line {number}", None, None))
    handler._at -= 2000  # so long ago
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "later", None, None))
    os.close(out)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split("test")[1].strip() for line in lines] == ["line 0", "line 1", "line 2", "later dropped=7"]
