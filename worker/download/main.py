"""The download child: the main thread answers the root, another one fetches. It ends when that is done, or on Stop."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
import time

from supervisor import log
from supervisor.boot import ORPHANED, Child
from supervisor.control import Channel, Closed, Download, FromRoot, Message, Phase, Ping, Pong, Relog, Stop
from supervisor.lease import Lease
from supervisor.log import facts
from worker.download.job import Job

_log = logging.getLogger(__name__)
_INTERVAL = 0.25  # seconds between two reports of how far it is
_LAST_WORDS = 2.0  # seconds for them


def main(child: Child) -> int:
    """The process; returns its exit code, or ends without waiting for a thread that hangs at the network."""
    for name in ("httpx", "httpx2", "httpcore", "huggingface_hub", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log URLs, which are signed
    code = Downloader(Channel(child.control, FromRoot)).run()
    logging.shutdown()
    os._exit(code)


class Downloader:
    """The main thread."""

    def __init__(self, channel: Channel[FromRoot]) -> None:
        self._channel = channel
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._said: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._told: Message | None = None
        self._planned = False
        self._lease = Lease(time.monotonic())

    def run(self) -> int:
        """Until it is done. 0, also if it has failed: the root has been told."""
        try:
            while self._receive():
                over = self._thread is not None and not self._thread.is_alive()
                self._pass_on()
                if over:
                    break
                self._wait()
            self._finish()
        except Closed as reason:
            _log.error("the root is gone %s", facts(reason=reason))
            return ORPHANED
        return 0

    def _wait(self) -> None:
        writers = [self._channel.fileno()] if self._channel.pending else []
        select.select([self._channel.fileno(), self._wakeup], writers, [], _INTERVAL)
        if self._channel.pending:
            self._channel.flush()

    def _receive(self) -> bool:
        """Handles what the root says; False if that is Stop."""
        while (received := self._channel.receive()) is not None:
            self._lease.heard = time.monotonic()
            match received[0]:
                case Ping(number, lease):
                    self._lease.seconds = lease
                    self._channel.send(Pong(number, self._phase, steps=self._job.steps if self._job else 0))
                case Relog(wanted):
                    log.configure(*wanted.form)
                case Stop():
                    return False
                case Download() as order:
                    self._begin(order)
                case message:
                    raise AssertionError(f"not for a download child: {type(message).__name__}")
        if self._lease.over(time.monotonic()):
            raise Closed(f"no word for {self._lease.seconds:g} s")
        return True

    @property
    def _phase(self) -> Phase:
        return Phase.DOWNLOADING if self._job else Phase.IDLE

    def _begin(self, order: Download) -> None:
        self._job = job = Job(order, self._tell)
        self._thread = threading.Thread(target=self._work, args=(job,), daemon=True)
        self._thread.start()

    def _work(self, job: Job) -> None:
        try:
            job.run()
        finally:
            os.eventfd_write(self._wakeup, 1)

    def _tell(self, message: Message) -> None:
        self._said.put(message)
        os.eventfd_write(self._wakeup, 1)

    def _pass_on(self) -> None:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            pass
        while not self._said.empty():
            self._channel.send(self._said.get())
            self._planned = True
        if self._planned and self._job is not None and (now := self._job.files) != self._told:
            self._told = now
            self._channel.send(now)

    def _finish(self) -> None:
        if self._job is not None and self._thread is not None:
            self._job.stop()
            self._thread.join(_LAST_WORDS)
        deadline = time.monotonic() + _LAST_WORDS
        while not self._channel.flush() and time.monotonic() < deadline:
            select.select([], [self._channel], [], _INTERVAL)
