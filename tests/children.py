"""Small child programs for tests of process handling; each is an entry "tests.children:NAME"."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import time
from typing import NoReturn

from supervisor.boot import Child


def idle(child: Child) -> int:
    """Says hello in its log, then waits for its end."""
    logging.getLogger("child").info("hello from %s", child.role)
    while child.control.recv(65536):
        pass
    return 0


def code(child: Child) -> int:
    """Exits with the number in its role: `code:7`."""
    return int(child.role.partition(":")[2])


def exits(child: Child, *listeners: object) -> int:
    """Never comes to anything."""
    return 3


def halting_proxy(child: Child, *listeners: socket.socket) -> int | None:
    """A proxy whose loop SIGUSR2 stops for as long as there is the file $LSV_HALT."""
    from proxy import main

    def halt(*_: object) -> None:
        while os.path.exists(os.environ["LSV_HALT"]):
            time.sleep(0.02)

    signal.signal(signal.SIGUSR2, halt)
    return main.main(child, *listeners)


def deaf(child: Child) -> int:
    """Sleeps in C with the GIL held: no thread and no signal handler of Python's runs."""
    child.control.send(b"deaf")
    ctypes.PyDLL(None).sleep(3600)
    return 0


def late(child: Child) -> int:
    """Hears SIGUSR1 a second and a half after it was sent, as on a machine that stood still."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    child.control.send(b"late")
    while signal.SIGUSR1 not in signal.sigpending():
        time.sleep(0.01)
    time.sleep(1.5)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    time.sleep(3600)
    return 0


def stopped(child: Child) -> int:
    """Stops itself."""
    child.control.send(b"stopped")
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0


def slow_import(child: Child) -> int:
    """Stands for a long start."""
    child.control.send(b"slow")
    time.sleep(3600)
    return 0


def stuck_scan(child: Child) -> int:
    """A scan child whose disk does not answer."""
    from supervisor.control import Channel, FromRoot
    from supervisor.scan import Scanner

    def hang(path: str) -> NoReturn:
        while True:
            time.sleep(60)

    return Scanner(Channel(child.control, FromRoot), hang, timeout=0.2).run()
