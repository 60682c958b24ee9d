from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import msgspec
import pytest

from supervisor.control import Channel, Closed, FromRoot, Lost, Neighbours, Peer, Ping, Pong, ToRoot

Pair = tuple[Channel[ToRoot], Channel[FromRoot]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channels = Channel[ToRoot](ours, ToRoot), Channel[FromRoot](theirs, FromRoot)
    yield channels
    for channel in channels:
        channel.close()


def test_messages_arrive_whole_in_order_and_typed(pair: Pair) -> None:
    root, child = pair
    for number in range(3):
        root.send(Ping(number))
    assert [child.receive() for _ in range(4)] == [(Ping(0), []), (Ping(1), []), (Ping(2), []), None]
    child.send(Pong(1, "idle"))  # type: ignore[arg-type]
    received = root.receive()
    assert received is not None
    assert received[0] == Pong(1, "idle")  # type: ignore[arg-type]


def test_descriptors_come_with_their_message(pair: Pair) -> None:
    root, child = pair
    reader, writer = os.pipe()
    root.send(Peer(0), [writer])
    os.close(writer)
    received = child.receive()
    assert received is not None
    message, fds = received
    assert message == Peer(0)
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(reader, 100) == b"through"
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_a_message_beyond_a_packet_travels_in_memory(pair: Pair) -> None:
    root, child = pair
    before = len(os.listdir("/proc/self/fd"))
    huge = Lost("m", 1, "x" * 5_000_000)
    root.send(huge)
    assert child.receive() == (huge, [])
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_does_not_fit_now_is_kept_in_order(pair: Pair) -> None:
    root, child = pair
    sent = 0
    while not root.pending:
        root.send(Neighbours(sent))
        sent += 1
    root.send(Neighbours(sent))
    got = []
    while (received := child.receive()) or root.pending:
        if received:
            got.append(received[0])
        root.flush()
    assert got == [Neighbours(number) for number in range(sent + 1)]


def test_a_peer_that_never_reads_is_given_up(pair: Pair) -> None:
    root, _ = pair
    root.limit = 5
    while len(root._waiting) < root.limit:
        root.send(Neighbours(0))
    with pytest.raises(Closed, match="does not read"):
        root.send(Neighbours(0))


def test_the_end_of_the_peer_is_told(pair: Pair) -> None:
    root, child = pair
    child.close()
    with pytest.raises(Closed):
        root.receive()
    with pytest.raises(Closed):
        root.send(Ping(1))


def test_garbage_and_messages_of_the_wrong_direction_are_refused(pair: Pair) -> None:
    root, child = pair
    child.sock.send(b"i\xff\xff")
    with pytest.raises(msgspec.DecodeError):
        root.receive()
    child.send(Ping(1))
    with pytest.raises(msgspec.ValidationError):
        root.receive()


@contextlib.contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process has those that it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_message_that_needs_a_descriptor_waits_for_one_and_keeps_its_place(pair: Pair) -> None:
    root, child = pair
    huge = Lost("m", 1, "x" * 100_000)
    with no_more_descriptors():
        root.send(huge)
        root.send(Neighbours(1))
        assert (root.pending, root.crowded, root.starved) == (True, False, True)
    assert child.receive() is None
    assert root.flush()
    assert [child.receive() for _ in range(3)] == [(huge, []), (Neighbours(1), []), None]
    assert not root.starved


def test_without_descriptors_nothing_of_a_message_with_some_is_sent(pair: Pair) -> None:
    root, child = pair
    with no_more_descriptors(), pytest.raises(OSError, match="Too many open files"):
        root.send(Peer(0), [0, 0])
    assert not root.pending
    assert child.receive() is None


def test_who_can_take_no_descriptors_gets_the_message_alone(pair: Pair) -> None:
    root, child = pair
    reader, writer = os.pipe()
    root.send(Peer(3), [writer])
    os.close(writer)
    with no_more_descriptors():
        assert child.receive() == (Peer(3), [])
    assert os.read(reader, 1) == b""  # nobody holds the other end
    os.close(reader)


def test_a_message_that_cannot_be_had_whole_ends_the_channel(pair: Pair) -> None:
    root, child = pair
    root.send(Lost("m", 1, "x" * 100_000))
    with no_more_descriptors(), pytest.raises(Closed, match="no descriptors"):
        child.receive()
