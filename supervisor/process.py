"""The one file that knows multiprocessing: starting children, noticing their deaths, handing out links.

Rules and measurements: RELIABILITY.md, 2. Children are started by `spawn`, from the main thread, with INT, TERM and HUP
masked; deaths are seen through pidfds; descriptors travel by `send_fds`, never by pickling a Connection.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import DupFd

from supervisor import boot, recorder, ring
from supervisor.control import Channel, ToRoot

_CONTEXT = multiprocessing.get_context("spawn")
_MASKED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_BUFFER = 4 * 2**20  # capped by net.core.wmem_max; a default pipe holds 167 small messages


class StartFailed(Exception):
    """A child could not be started: no descriptors, processes or memory left."""


class Child:
    """A started child and the root's ends of what it shares with it.

    `pidfd` turns readable when the process is gone; then call `reap`, once, and `close`. `ring` holds what it logs.
    """

    def __init__(
        self, role: str, process: SpawnProcess, control: socket.socket, lifeline: int, logs: tuple[int, int, int]
    ) -> None:
        self.role = role
        self.pid = process.pid or 0
        self.pidfd = os.pidfd_open(self.pid)
        self.channel: Channel[ToRoot] = Channel(control, ToRoot)
        self._process = process  # kept: dropping it closes the child's sentinel
        self._lifeline = lifeline
        self.ring, self._dump, self._recorder = logs

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens if the child is gone already."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kernel_state(self) -> str:
        """The letter of /proc/PID/stat: R, S, D, T, t, Z; "" if it cannot be read."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
                return file.read().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return ""

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """The last lines it logged; also after its death, until `close`."""
        return ring.tail(self.ring, lines)

    @property
    def dumped(self) -> bool:
        """Whether there is a stack dump."""
        return os.fstat(self._dump).st_size > 0

    def stack_dump(self) -> str:
        """What faulthandler wrote: at SIGUSR1, or at a fatal signal."""
        return os.pread(self._dump, 64 * 1024, 0).decode("utf-8", "replace")

    def record(self) -> recorder.Record:
        """What it was at; also after its death, until `close`."""
        return recorder.read(self._recorder)

    def gone_within(self, seconds: float) -> bool:
        """Whether it ends in this time; blocks."""
        poll = select.poll()  # unlike select() it takes descriptors beyond 1023
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def reap(self) -> int:
        """The exit code, -N for signal N. Only after `pidfd` is readable."""
        self._process.join()
        code = self._process.exitcode
        self._process.close()
        return -signal.SIGKILL if code is None else code

    def close(self) -> None:
        """Gives back every descriptor. Closing the lifeline of a living child kills it."""
        self.channel.close()
        for fd in (self.pidfd, self._lifeline, self.ring, self._dump, self._recorder):
            os.close(fd)


class _Inherit:
    """A descriptor that a starting child keeps under the same number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[object, tuple[object]]:
        return boot.inherited, (DupFd(self.fd),)


def start(
    entry: str,
    role: str,
    listeners: Sequence[socket.socket] = (),
    form: tuple[str, str, int, int] = ("info", "text", 200, 1000),
) -> Child:
    """Starts a child that boots as `role` and then runs `entry`, a "module:function". Raises StartFailed.

    `form`: how it logs, see supervisor.log.configure.
    """
    with ExitStack() as undo, ExitStack() as handed_over:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            handed_over.callback(theirs.close)  # the root must close its copy, or end-of-file never comes
            watched, lifeline = os.pipe()  # the child watches one end; it learns by its end that we died
            handed_over.callback(os.close, watched)
            undo.callback(os.close, lifeline)
            logs: list[int] = []
            for create in (ring.create, _dump, recorder.create):
                logs.append(create())
                undo.callback(os.close, logs[-1])
            inherited = (_Inherit(watched), os.getpid(), *map(_Inherit, logs))
            arguments = (entry, role, theirs, *inherited, tuple(listeners), form)
            process = _CONTEXT.Process(target=boot.run, args=arguments, name=role)
            with _masked():
                process.start()
            undo.callback(process.kill)
            boot.tie(watched, process.pid or 0)  # it does so too, but an interpreter may take a second to come to that
            child = Child(role, process, ours, lifeline, (logs[0], logs[1], logs[2]))
        except OSError as error:
            raise StartFailed(f"cannot start {role}: {error.strerror}") from None
        undo.pop_all()
        return child


def _dump() -> int:
    return os.memfd_create("lsv-dump")


@contextmanager
def link() -> Iterator[tuple[int, int]]:
    """A new link: two descriptors, one for a proxy and one for a worker, to be sent; closed here afterwards.

    Raises OSError if there are no descriptors left.
    """
    near, far = _CONTEXT.Pipe(duplex=True)
    with near, far:
        for end in (near, far):
            with socket.socket(fileno=os.dup(end.fileno())) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        yield near.fileno(), far.fileno()


@contextmanager
def _masked() -> Iterator[None]:
    """Signals wait until the child has its own handlers; it unmasks them itself."""
    resource_tracker.ensure_running()  # before masking: launching it unblocks INT and TERM on Python 3.11
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _MASKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
