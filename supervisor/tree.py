"""The root: one thread, one loop. It waits, lets the owners of proxies, workers and models act, and obeys signals."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable

from supervisor import config, listeners, log, reload, title
from supervisor.control import Reloaded
from supervisor.fleet import Fleet
from supervisor.library import Library
from supervisor.log import facts
from supervisor.notify import Notifier
from supervisor.nursery import Nursery
from supervisor.proxies import Proxies
from supervisor.store import Store, take_token
from supervisor.timers import Timers
from supervisor.workers import Workers

logger = logging.getLogger("root")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Tree:
    """The whole server. `run` returns the root's exit code: 0 asked to stop, 1 fatal."""

    def __init__(self, settings: config.Config, sockets: list[socket.socket], ring: int | None = None) -> None:
        """`ring`: where the root's own log is."""
        self._config, self._sockets = settings, sockets
        self._selector = selectors.DefaultSelector()
        self._timers = Timers()
        self._notifier = Notifier()
        self._nursery = Nursery(self._selector, self._timers, settings)
        hooks: dict[str, Callable[..., None]] = {"listening": self._serving, "failed": self._fatal}
        self._proxies = Proxies(self._nursery, self._timers, settings, sockets, **hooks)
        self._workers = Workers(self._nursery, self._timers, settings)
        self._workers.show_ring = self._proxies.show_ring
        if ring is not None:
            self._proxies.show_ring("root", ring)
        self._fleet = Fleet(settings, self._timers, self._proxies, self._workers)
        self._workers.lives = self._fleet
        self._library = Library(self._nursery, self._timers, settings, self._fleet.adopt)
        self._store = Store(self._nursery, self._fleet, self._library, take_token(os.environ))
        self._fleet.store = self._store
        self._fleet.measured = self._library.remember
        self._fleet.reported = self._library.report
        self._reloads = reload.Reloads(
            self._selector,
            self._timers,
            current=lambda: self._config,
            take=self._take,
            catalog=lambda: self._fleet.catalog,
            running=lambda: self._fleet.running,
            rescan=self._library.rescan,
        )
        self._proxies.reload = self._reload
        self._ready = self._stopping = False
        self._exit: int | None = None
        self._terminal_gone = not os.isatty(0)
        self._status = ""

    def run(self) -> int:
        """Serves until told to stop. Whatever ends it, no child is left."""
        try:
            return self._serve()
        finally:
            self._nursery.kill_all()
            if self._nursery.wards:  # stuck in the kernel; multiprocessing would wait for them at exit
                os._exit(1)

    def _serve(self) -> int:
        title.set("root")
        self._catch_signals()
        self._proxies.start(self._fleet)
        self._fleet.preload()
        self._watchdog()
        while self._exit is None:
            self._fleet.settle()
            self._tell_status()
            for key, events in self._selector.select(self._until_next()):
                now = self._selector.get_map().get(key.fd)
                if now is not None and now.data is key.data:  # an earlier one may have ended it, and the number be new
                    key.data(events)
            self._timers.run(time.monotonic())
            self._advance_stop()
        return self._exit

    def _until_next(self) -> float | None:
        when = self._timers.next()
        return None if when is None else max(0.0, when - time.monotonic())

    def _serving(self) -> None:
        if not self._ready:
            self._ready = True
            self._library.rescan()  # not before: a proxy that starts needs the cores
            places = ", ".join(listeners.shown(sock) for sock in self._sockets)
            logger.info("serving %s", facts(at=places, models=len(self._config.models)))
            if self._config.exposed:
                logger.warning("configuration: %s", config.EXPOSED)
            self._warn()
            self._notifier.send(READY=1)

    def _warn(self) -> None:
        for text in self._config.warnings:
            logger.warning("configuration: %s", text)

    def _tell_status(self) -> None:
        text = self._fleet.summary()
        if text != self._status:
            self._status = text
            title.set("root", text if len(text) < 60 else "")
            self._notifier.send(STATUS=text)

    def _watchdog(self) -> None:
        if (interval := self._notifier.watchdog_interval) is not None:
            self._notifier.send(WATCHDOG=1)
            self._timers.set("watchdog", time.monotonic() + interval, self._watchdog)

    def _fatal(self, why: str) -> None:
        logger.error("giving up: %s", why)
        self._exit = 1

    # -- signals -----------------------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wakeup = (reader, writer)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)  # the byte on the wake-up socket is the message
        self._selector.register(reader, selectors.EVENT_READ, lambda _: self._signalled())

    def _signalled(self) -> None:
        for number in self._wakeup[0].recv(64):
            logger.info("received %s", signal.Signals(number).name)
            if number == signal.SIGHUP and not self._hung_up():
                self._reload()
            else:
                self._stop()

    def _hung_up(self) -> bool:
        """SIGHUP from a terminal that is gone means stop; from a service manager or a person it means reload."""
        if self._terminal_gone:
            return False
        try:
            os.tcgetpgrp(0)
        except OSError:
            return True
        return False

    def _stop(self) -> None:
        if self._stopping:
            logger.info("stopping at once")
            self._timers.set("deadline", time.monotonic(), self._hurry)
            return
        self._stopping = True
        limits = self._config.shutdown
        total = limits.drain_timeout + limits.stop_timeout + limits.term_timeout + limits.kill_timeout
        self._notifier.send(STOPPING=1, EXTEND_TIMEOUT_USEC=int(total * 1e6))
        self._reloads.close()
        self._workers.close()
        self._store.close()
        self._library.close()
        self._proxies.shut_down(limits.drain_timeout)
        self._fleet.shut_down(limits.drain_timeout)

    def _hurry(self) -> None:
        """A second request to stop: the drain is over now."""
        self._proxies.shut_down(0.0)
        self._timers.set("deadline", time.monotonic() + 1.0, self._nursery.hurry)

    def _advance_stop(self) -> None:
        """Workers first, then the proxies, then the root: the reverse order of opening."""
        if not self._stopping or self._exit is not None:
            return
        if all(ward.unkillable for ward in self._nursery.wards):
            self._exit = 0
        elif all(ward.unkillable for ward in self._workers.of.values()):
            self._proxies.stop()

    # -- reload ------------------------------------------------------------------------------------------------

    def _reload(self, answer: Callable[[Reloaded], None] = lambda outcome: None) -> None:
        """Checks the whole new file first. What needs a restart is refused, and nothing changes then."""

        def told(outcome: Reloaded) -> None:
            if outcome.error and not self._stopping:
                self._notifier.send(READY=1, STATUS=f"reload refused: {outcome.error}")
            answer(outcome)

        if not self._stopping:
            self._notifier.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        self._reloads.ask(told)

    def _take(self, fresh: config.Config) -> None:
        """Another configuration, checked already."""
        changed, self._config = reload.changed_sections(self._config, fresh), fresh
        log.configure(*fresh.log.form)
        self._nursery.reconfigure(fresh)
        self._workers.reconfigure(fresh)
        self._fleet.reconfigure(fresh)
        self._library.reconfigure(fresh)
        self._proxies.reconfigure(fresh)  # last: by now they know of the models that it names
        logger.info("reloaded %s", facts(changed=",".join(changed) or "nothing"))
        self._warn()
        self._notifier.send(READY=1, STATUS=self._status)
