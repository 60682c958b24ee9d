"""The I/O thread: one selector over the control channel, the links, and a pipe that wakes it. RELIABILITY.md, 4 and 5.

It answers pings at once, whatever the main thread does, and turns what the root says into orders. Nothing in it waits
for the engine.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor import log as logs
from supervisor.boot import ORPHANED
from supervisor.control import (
    Channel,
    Closed,
    ConfigureWorker,
    Message,
    Neighbours,
    Peer,
    Phase,
    Ping,
    Pong,
    Relog,
    Report,
    SetScales,
    Stop,
    Warm,
)
from supervisor.figures import Series
from supervisor.lease import Lease
from supervisor.log import facts
from worker import adapter_set, warming
from worker.desk import Desk
from worker.links import Gone, Link
from worker.protocol import Event, ProtocolError
from worker.seams import Crowd, Inbox, Leave, Load, TextSide, Vitals, Wear
from worker.trail import Trail

_log = logging.getLogger(__name__)
_TERM_GRACE = 3.0  # seconds after SIGTERM, as the root's next step is SIGKILL
_LOAD_GRACE = 0.5  # a load that does not heed its progress callback is ended with the process
_CUT = 0.3  # seconds before the end in which cut sequences' last events are sent
_IDLE = (Phase.BOOT, Phase.STANDBY)
_REPORTS = 1.0  # seconds between two reports to the root, at least


class Switchboard:
    """Owns the control channel and the links. `run` is the thread; other threads have the first six methods."""

    def __init__(self, channel: Channel[Any], inbox: Inbox, vitals: Vitals) -> None:
        self.stopping = False
        self._channel, self._inbox, self._vitals = channel, inbox, vitals
        self._links: dict[int, Link] = {}
        self._trail = Trail()
        self._opened = 0
        self._waiting_peers: list[int] = []  # descriptors that came before the model was ready
        self._desk: Desk | None = None
        self._generation = 0
        self._lease = Lease(time.monotonic())
        self._end_at = float("inf")  # the process is over then, at the latest
        self._finishing = False
        self._reported: tuple[float, list[Series]] = (0.0, [])  # when (monotonic), and what
        self._outgoing: list[Message] = []  # to the root; bounded: a worker says Ready or LoadFailed, once
        self._dirty: set[int] = set()  # links that have something to send
        self._blocked: set[int] = set()  # links whose socket is full
        self._awake = False
        self._wake_out, self._wake_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel.sock, selectors.EVENT_READ, self._on_control)
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._on_wake)
        self._thread = threading.Thread(target=self._guarded, name="io", daemon=True)

    # -- for the main thread --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread; SIGTERM reaches it even while the main thread is in C. Call from the main thread."""
        signal.signal(signal.SIGTERM, lambda *_: None)  # a handler must exist for the wake-up descriptor to be written
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        self._thread.start()

    def serve(self, text: TextSide, generation: int) -> None:
        """From now on requests are taken; links that have come already are opened."""
        self._generation = generation
        self._desk = Desk(text, self._inbox, self._vitals.places, self._answer, self._trail)
        self._wake()

    def send(self, message: Message) -> None:
        """To the root, from any thread."""
        self._outgoing.append(message)
        self._wake()

    def put(self, link: int, events: Sequence[Event]) -> None:
        """To a proxy, from any thread, at once if its socket takes them; events for a link that is gone are dropped."""
        if (target := self._links.get(link)) is not None:
            self._trail.said(link, events)
            target.push(events)
            if not target.attempt():
                self._dirty.add(link)
                self._wake()

    def finish(self, within: float) -> None:
        """Sends what waits, then ends the thread; returns after `within` seconds at the latest."""
        self._report(time.monotonic())
        self._finishing = True
        self._wake()
        self._thread.join(within)

    def backlog(self, link: int) -> int:
        """Events that wait for a link; 0 if it is gone."""
        target = self._links.get(link)
        return target.push(()) if target else 0

    # -- the thread -----------------------------------------------------------------------------------------------

    def _guarded(self) -> None:
        try:
            self.run()
        except Closed:
            os._exit(ORPHANED)  # no root, no purpose
        except BaseException:
            _log.exception("the I/O thread failed")
            os._exit(1)

    def run(self) -> None:
        while not (self._finishing and self._drained):
            due = min(self._end_at, self._lease.due)
            timeout = max(0.0, due - time.monotonic()) if due < float("inf") else None
            ready = self._selector.select(timeout)
            for key, mask in sorted(ready, key=self._rank):
                key.data(key.fileobj, mask)
            self._flush()
            self._check_time()

    def _rank(self, ready: tuple[selectors.SelectorKey, int]) -> bool:
        """The root goes first: what it said before a request came holds for that."""
        return ready[0].fileobj is not self._channel.sock

    @property
    def _drained(self) -> bool:
        return not self._outgoing and not self._channel.pending and not self._dirty and not self._blocked

    def _check_time(self) -> None:
        now = time.monotonic()
        if now >= self._end_at:
            _log.warning("ended by its deadline")
            os._exit(0)
        if self._lease.over(now):
            _log.error("no word from the root %s", facts(seconds=self._lease.seconds))
            os._exit(ORPHANED)

    # -- control --------------------------------------------------------------------------------------------------

    def _on_control(self, _: object, mask: int) -> None:
        if not mask & selectors.EVENT_READ:
            return  # writable again: the flush that follows does it
        while True:
            try:
                received = self._channel.receive()
            except msgspec.DecodeError as error:
                _log.error("control message not understood: %s", error)
                continue
            if received is None:
                return
            self._lease.heard = time.monotonic()
            self._obey(*received)

    def _obey(self, message: Message, fds: list[int]) -> None:
        match message:
            case Ping(number, lease):
                v, self._lease.seconds = self._vitals, lease
                self._channel.send(
                    Pong(number, v.phase, v.steps, v.progress, v.active, v.queued + self._inbox.qsize(), v.expected)
                )
                if self._lease.heard >= self._reported[0] + _REPORTS:
                    self._report(self._lease.heard)
            case ConfigureWorker(model, generation, parking, template, costs, limit, folder):
                turn, empty, left = [*fds, -1, -1, -1][:3]
                del fds[:3]
                self._inbox.put(Load(model, generation, turn, parking, empty, left, template, costs, limit, folder))
            case Warm(path):
                warming.begin(path, lambda: self._vitals.phase not in _IDLE)
            case Peer():
                self._waiting_peers += fds[:1]
                del fds[:1]
            case Neighbours(count):
                self._inbox.put(Crowd(count))
            case SetScales(scales):
                self._inbox.put(Wear(adapter_set.of(enumerate(scales))))
            case Relog(wanted):
                logs.configure(*wanted.form)
            case Stop(deadline):
                self._stop(deadline)
            case _:
                _log.error("not a message for a worker: %s", type(message).__name__)
        for fd in fds:
            os.close(fd)

    def _report(self, now: float) -> None:
        """What was counted, if anything has changed since it was told."""
        vitals = self._vitals
        found = vitals.meters.series(vitals.active, vitals.queued + self._inbox.qsize())
        if found != self._reported[1] and vitals.meters.used:
            self._outgoing.append(Report(found))
        self._reported = (now, found)

    def _stop(self, deadline: float) -> None:
        """Ends within `deadline` seconds: a load at once, running sequences when they are done or shortly before."""
        now = time.monotonic()
        self.stopping = True
        if self._desk is not None:
            self._desk.leaving = True
            self._end_at = min(self._end_at, now + deadline)
        else:
            self._end_at = min(self._end_at, now + min(deadline, _LOAD_GRACE))
        self._inbox.put(Leave(self._end_at - _CUT))

    def _on_wake(self, _: object, __: int) -> None:
        self._awake = False
        numbers = os.read(self._wake_out, 4096)
        if signal.SIGTERM in numbers:
            self._stop(_TERM_GRACE)

    def _wake(self) -> None:
        if self._awake:
            return
        self._awake = True
        try:
            os.write(self._wake_in, b"\0")
        except BlockingIOError:
            pass  # full of signals: it is awake

    # -- links ----------------------------------------------------------------------------------------------------

    def _open_links(self) -> None:
        while self._waiting_peers:
            fd = self._waiting_peers.pop(0)
            self._opened += 1  # never used twice, so that a late event cannot reach another proxy's request
            number = self._opened
            link = self._links[number] = Link(number, fd, self._generation)
            self._selector.register(link, selectors.EVENT_READ, self._on_link)
            self._dirty.add(number)

    def _on_link(self, link: Any, mask: int) -> None:
        assert self._desk is not None
        if mask & selectors.EVENT_WRITE:
            self._dirty.add(link.number)
        if not mask & selectors.EVENT_READ:
            return
        try:
            for request in link.read():
                self._desk.serve(link, request)
        except Gone as reason:
            self._close_link(link, str(reason))
        except ProtocolError as error:
            _log.error("link dropped: %s", error)
            self._close_link(link, str(error))

    def _close_link(self, link: Link, reason: str) -> None:
        assert self._desk is not None
        _log.info("link closed %s", facts(link=link.number, live=len(link.live), reason=reason))
        self._selector.unregister(link)
        del self._links[link.number]
        self._dirty.discard(link.number)
        self._blocked.discard(link.number)
        self._desk.hang_up(link)
        link.close()

    def _answer(self, link: Link, events: Sequence[Event]) -> None:
        self._trail.said(link.number, events)
        link.push(events)
        self._dirty.add(link.number)
        self._wake()

    def _flush(self) -> None:
        while self._outgoing:
            self._channel.send(self._outgoing.pop(0))
        self._channel.flush()
        self._watch(self._channel.sock, self._channel.crowded)
        if self._desk is not None:
            self._open_links()
        for number in list(self._dirty):
            self._dirty.discard(number)  # first, as the engine may add it again at any moment
            if (link := self._links.get(number)) is not None:
                try:
                    done = link.write()
                    self._watch(link, not done)
                    (self._blocked.discard if done else self._blocked.add)(number)
                except Gone as reason:
                    self._close_link(link, str(reason))

    def _watch(self, file: Any, writing: bool) -> None:
        """Wakes up when `file` takes bytes again."""
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        key = self._selector.get_key(file)
        if key.events != mask:
            self._selector.modify(file, mask, key.data)
