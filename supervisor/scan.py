"""The scan child: reads files for the root, which opens none, so that neither a bad file nor a dead mount stops it.

The main thread answers pings and watches the other one, in which the Librarian touches files. If that hangs, the root
is told at what, and ends this process. It lives until the root stops it, watching models_dir meanwhile.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from supervisor import crash_files, keepsakes, log, machine
from supervisor.boot import ORPHANED, Child
from supervisor.control import (
    Channel,
    Closed,
    Discard,
    FolderChanged,
    FromRoot,
    KeepReport,
    Known,
    Message,
    Phase,
    Ping,
    Pong,
    Relog,
    Remember,
    Scan,
    Stop,
    Stuck,
)
from supervisor.folder_watch import FolderWatch
from supervisor.lease import Lease
from supervisor.librarian import Librarian, Read, Touch
from supervisor.log import facts

_log = logging.getLogger(__name__)
TOUCH_TIMEOUT = 15.0  # seconds that one file or folder may take
_QUIET = 0.5  # seconds without a change, before a changed folder is looked through
_TICK = 1.0
_LAST_WORDS = 2.0  # seconds at the end for what is being kept
Job = Scan | Remember | KeepReport | Discard


def main(child: Child) -> int:
    """The process. Returns its exit code."""
    return Scanner(Channel(child.control, FromRoot)).run()


class Scanner:
    """The main thread. `read` and `timeout` are for tests."""

    def __init__(self, channel: Channel[FromRoot], read: Read | None = None, timeout: float = TOUCH_TIMEOUT) -> None:
        self._channel, self._timeout = channel, timeout
        self._desk = _Desk(read)
        self._steps = 0
        self._changed: float | None = None
        self._lease = Lease(time.monotonic())

    def run(self) -> int:
        """Until the root says Stop, or is gone."""
        self._desk.start()
        try:
            while True:
                self._wait()
                if not self._receive():
                    self._desk.finish(_LAST_WORDS)
                    return 0
                self._pass_on()
                self._look_at_the_folder()
                if self._look_at_the_desk():
                    return self._linger()
        except Closed as reason:
            _log.error("the root is gone %s", facts(reason=reason))
            return ORPHANED
        finally:
            self._channel.close()
            self._desk.close()

    def _wait(self) -> None:
        watch = self._desk.watch
        readers = [self._channel.fileno(), self._desk.wakeup, *([watch.fileno()] if watch else [])]
        writers = [self._channel.fileno()] if self._channel.pending else []
        ready = select.select(readers, writers, [], _QUIET if self._changed else min(_TICK, self._timeout))[0]
        if self._channel.pending:
            self._channel.flush()
        if watch is not None and watch.fileno() in ready:
            watch.drain()
            self._changed = time.monotonic()

    def _receive(self) -> bool:
        """Handles what the root says; False if that is Stop."""
        while (received := self._channel.receive()) is not None:
            self._lease.heard = time.monotonic()
            match received[0]:
                case Ping(number, lease):
                    self._lease.seconds = lease
                    self._channel.send(Pong(number, Phase.IDLE, steps=self._steps))
                case Relog(wanted):
                    log.configure(*wanted.form)
                case Stop():
                    return False
                case Scan() | Remember() | KeepReport() | Discard() as job:
                    self._desk.jobs.put(job)
                case message:
                    raise AssertionError(f"not for a scan child: {message}")
        if self._lease.over(time.monotonic()):
            raise Closed(f"no word for {self._lease.seconds:g} s")
        return True

    def _pass_on(self) -> None:
        for message in self._desk.said():
            self._steps += 1
            self._channel.send(message)
        if self._desk.error is not None:
            raise self._desk.error

    def _look_at_the_folder(self) -> None:
        if self._changed is not None and time.monotonic() - self._changed >= _QUIET:
            self._changed = None
            self._channel.send(FolderChanged())

    def _look_at_the_desk(self) -> bool:
        """True if it hangs: the root has been told."""
        at = self._desk.at
        if at is None or time.monotonic() - at.since < self._timeout:
            return False
        self._channel.send(Stuck(at.path, at.folder))
        return True

    def _linger(self) -> int:
        """Says what is left to say; the process then ends without waiting for its thread."""
        while not self._channel.flush():
            select.select([], [self._channel], [], _TICK)
        os._exit(1)


class _Desk(threading.Thread):
    """The other thread, and what goes to it and comes from it."""

    def __init__(self, read: Read | None) -> None:
        super().__init__(daemon=True)
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch = _watch()
        self._out: deque[Message] = deque()
        self._read = read
        self._librarian: Librarian | None = None
        self._place: str | None = None
        self._began: Touch | None = None
        self.error: Exception | None = None  # what ended the thread

    @property
    def at(self) -> Touch | None:
        return self._began or (self._librarian.at if self._librarian else None)

    def said(self) -> list[Message]:
        """What is to be sent now."""
        try:
            os.eventfd_read(self.wakeup)
        except BlockingIOError:
            pass
        return [self._out.popleft() for _ in range(len(self._out))]

    def finish(self, within: float) -> None:
        """Lets it do what it was given, for a while."""
        self.jobs.put(None)
        self.join(within)

    def close(self) -> None:
        """Gives back its descriptors, unless the thread still needs them: then the process is about to end."""
        if not self.is_alive():
            os.close(self.wakeup)
            if self.watch is not None:
                self.watch.close()

    def run(self) -> None:
        try:
            while (job := self.jobs.get()) is not None:
                self._do(job)
        except Exception as error:  # the thread's edge: the main thread ends the process with it
            self.error = error
            os.eventfd_write(self.wakeup, 1)

    def _do(self, job: Job) -> None:
        match job:
            case Scan():
                self._open(job.state)
                assert self._librarian is not None
                self._librarian.scan(job)
            case Discard():
                self._open(job.state)
                assert self._librarian is not None
                self._tell(self._librarian.discard(job))
            case Remember(state, key, footprint):
                self._open(state)
                self._touching(state, lambda: self._kept.remember(key, footprint))
            case KeepReport():
                self._touching(job.state, lambda: _keep(job))

    def _open(self, place: str) -> None:
        """Before the first scan, or for another folder: reads what is kept there."""
        if place == self._place:
            return
        self._place = place
        self._touching(place, lambda: self._read_kept(place))
        read = {} if self._read is None else {"read": self._read}
        self._librarian = Librarian(self._tell, self._kept, self.watch, **read)
        self._tell(Known(dict(self._kept.memory), machine.gpus()))

    def _read_kept(self, place: str) -> None:
        self._kept = keepsakes.Keepsakes(place)

    def _touching(self, path: str, do: Callable[[], None]) -> None:
        self._began = Touch(path, path, time.monotonic())
        try:
            do()
        finally:
            self._began = None

    def _tell(self, message: Message) -> None:
        self._out.append(message)
        os.eventfd_write(self.wakeup, 1)


def _keep(order: KeepReport) -> None:
    try:
        crash_files.keep(order.state, order.id, order.content, order.most, order.size)
    except OSError as error:
        _log.error("a crash report is lost %s", facts(id=order.id, state=order.state, error=error.strerror))


def _watch() -> FolderWatch | None:
    try:
        return FolderWatch()
    except OSError:
        return None  # no inotify left: SIGHUP looks again
