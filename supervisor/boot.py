"""The first code that runs in a child: lifelines, signals, title, log; then the child's own main.

Nothing but the standard library is imported before the lifelines are armed. RELIABILITY.md, 3.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_PR_SET_PDEATHSIG = 1
_F_SETSIG = 10  # fcntl.F_SETSIG exists from Python 3.13 on
ORPHANED = 70  # the exit code of a child whose root is gone, or silent

STANDBY = "standby"  # the role of a worker that waits for a model


class _Inherited(Protocol):
    def detach(self) -> int: ...


@dataclass(frozen=True)
class Child:
    """What a child has when its main begins. `control` is its end of the control socket, not yet read.

    Log with `logging`: it reaches stderr and the ring, whose last lines outlive the process.
    """

    role: str
    control: socket.socket


def inherited(fd: _Inherited) -> int:
    """Unpickles a descriptor that multiprocessing kept open for this child."""
    return fd.detach()


def run(
    entry: str,
    role: str,
    control: socket.socket,
    lifeline: int,
    root_pid: int,
    ring: int,
    dump: int,
    record: int,
    listeners: tuple[socket.socket, ...],
    form: tuple[str, str, int, int] = ("info", "text", 200, 1000),
) -> None:
    """The target of every multiprocessing.Process: prepares the process, then calls `entry` ("module:function").

    `form`: how it logs, see supervisor.log.configure.
    """
    _arm(lifeline, root_pid)
    _signals(dump)
    import logging

    from supervisor import log, recorder, title

    title.set(role)
    log.setup(role, ring)
    log.configure(*form)
    recorder.setup(record)
    _volunteer_for_oom(role)
    code = _resolve(entry)(Child(role, control), *listeners)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)  # the interpreter would take 80 ms to free what the kernel frees at once (measured, a worker)


def _arm(lifeline: int, root_pid: int) -> None:
    """Two lifelines without a thread: the kernel ends this process when the root ends, even in C with the GIL held."""
    tie(lifeline, os.getpid())
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    gone = select.select([lifeline], [], [], 0)[0]  # it never carries a byte: readable means the root is gone
    if gone or os.getppid() != root_pid:
        os._exit(ORPHANED)


def tie(lifeline: int, pid: int) -> None:
    """From now on the kernel kills the process when the pipe whose reading end this is has lost its last writer."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, pid)
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)


def _signals(dump: int) -> None:
    """^C and hang-ups are the root's affair; SIGTERM asks to stop; SIGUSR1 dumps all stacks, GIL held or not."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.enable(dump, all_threads=True)
    faulthandler.register(signal.SIGUSR1, dump, all_threads=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})


def _volunteer_for_oom(role: str) -> None:
    """Workers are what the kernel should take when memory ends, not the tree."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0" if role.startswith("proxy") else "500")
    except OSError:
        pass  # lowering needs a privilege; the default is good enough


def _resolve(entry: str) -> Callable[..., int | None]:
    module, _, function = entry.partition(":")
    main: Callable[..., int | None] = getattr(importlib.import_module(module), function)
    return main
