"""The proxy as a process: it ends when it should, at once if its root is gone."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.control import Channel, Closed, ConfigureProxy, Listening, Ping, Pong, ShutDown, Shutdown, Stop, ToRoot
from tests.proxy.harness import WITHIN, loaded, settings

LEASE = 1.0
RUN = """
import socket, sys
from proxy.main import main
from supervisor.boot import Child
sys.exit(main(Child("proxy-0", socket.socket(fileno={control})), socket.socket(fileno={listener})))
"""


class Process:
    """A proxy in a process of its own; the test is its root."""

    def __init__(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = socket.create_server(("127.0.0.1", 0))
        fds = (far.fileno(), listener.fileno())
        code = RUN.format(control=fds[0], listener=fds[1])
        self.process = subprocess.Popen([sys.executable, "-c", code], pass_fds=fds)
        far.close()
        listener.close()
        self.root: Channel[Any] = Channel(near, ToRoot)

    def expect(self, kind: type) -> Any:
        """The next message, which is of this kind."""
        self.root.sock.settimeout(WITHIN)
        self.root.sock.recv(1, socket.MSG_PEEK)
        self.root.sock.setblocking(False)
        received = self.root.receive()
        assert received is not None
        assert isinstance(received[0], kind), received
        return received[0]

    def close(self) -> None:
        self.root.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def proxy() -> Iterator[Process]:
    found = Process()
    found.root.send(ConfigureProxy(0, settings(), (loaded(),)))
    found.expect(Listening)
    yield found
    found.close()


def test_it_answers_pings_and_stops_when_told(proxy: Process) -> None:
    proxy.root.send(Ping(3))
    assert proxy.expect(Pong).number == 3
    proxy.root.send(Shutdown(10.0))
    proxy.expect(ShutDown)
    proxy.root.send(Stop(5.0))
    assert proxy.process.wait(WITHIN) == 0


def test_sigterm_ends_it(proxy: Process) -> None:
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.process.wait(WITHIN) == 0


def test_it_does_not_outlive_its_root(proxy: Process) -> None:
    proxy.root.sock.shutdown(socket.SHUT_RDWR)
    assert proxy.process.wait(WITHIN) == 70
    with pytest.raises(Closed):
        proxy.root.receive()


def test_a_root_that_hangs_ends_the_lease() -> None:
    """Without a service manager's watchdog nobody else would end a server whose root stands still."""
    found = Process()
    try:
        found.root.send(ConfigureProxy(0, settings(), (loaded(),)))
        found.expect(Listening)
        longer = time.monotonic() + 1.5 * LEASE
        while time.monotonic() < longer:
            found.root.send(Ping(1, LEASE))
            found.expect(Pong)
            with pytest.raises(subprocess.TimeoutExpired):
                found.process.wait(0.05)
        assert found.process.wait(WITHIN) == 70
    finally:
        found.close()
