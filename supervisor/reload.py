"""Another configuration while the server runs: read and checked as a whole first, then told as a difference.

It is read in a thread: it may name a file on a mount that does not answer, and the root waits for nobody.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from selectors import EVENT_READ, BaseSelector

import msgspec

from supervisor import configfile, roster
from supervisor.config import Config, ConfigError
from supervisor.control import Entry, Reloaded
from supervisor.log import facts
from supervisor.timers import Timers

log = logging.getLogger("root")

# The others are what sockets are bound with, what a page is made of, or what workers were given when they started.
RELOADABLE = frozenset(
    {
        "keys", "admission", "placement", "liveness", "restart", "shutdown", "log", "models", "variants", "defaults",
        "sources", "state", "resume", "warnings",
    }
)  # fmt: skip
_PATIENCE = 10.0  # seconds for the file to be read, and again for the folders to be looked through

_CLOSED = Reloaded(error="the server is shutting down")

Answer = Callable[[Reloaded], None]


def check(file: str, before: Config) -> Config:
    """The file's configuration, if the server can go on with it. Raises ConfigError."""
    fresh = configfile.load(file)
    if refused := sorted(set(changed_sections(before, fresh)) - RELOADABLE):
        places = "], [".join(refused)
        raise ConfigError(f"{file}: a change of [{places}] needs a restart of the server", table=refused[0])
    return fresh


def changed_sections(before: Config, fresh: Config) -> list[str]:
    """The tables that are not as they were."""
    return [name for name in fresh.__struct_fields__ if getattr(fresh, name) != getattr(before, name)]


def difference(
    before: Mapping[str, Entry], after: Mapping[str, Entry], old: Config, new: Config, running: set[str]
) -> Reloaded:
    """What has become of the models; `running` were loaded before it."""
    change = roster.change(before, after)
    settled = {*change.reload, *change.repaired}
    told = {name for name in change.changed if before[name].model != after[name].model} | settled
    variants = {name for name in old.variants if new.variants.get(name, old.variants[name]) != old.variants[name]}
    return Reloaded(
        added=tuple(sorted({*change.added, *(new.variants.keys() - old.variants.keys())})),
        removed=tuple(sorted({*change.gone, *(old.variants.keys() - new.variants.keys())})),
        changed=tuple(sorted(told | variants)),
        restarting=tuple(sorted(running & {*change.reload})),
    )


class Reader:
    """Reads the configuration when asked; `done` is called in the root's loop, with the result or what is wrong.

    Only one reading at a time: who asks during one is answered by the next, as the file may be another by then.
    """

    def __init__(self, selector: BaseSelector, timers: Timers, done: Callable[[Config | ConfigError], None]) -> None:
        self._selector, self._timers, self._done = selector, timers, done
        self._near: socket.socket | None = None
        self._again: tuple[str, Config] | None = None

    @property
    def busy(self) -> bool:
        return self._near is not None

    def read(self, file: str, before: Config) -> None:
        """Begins; call it only while nothing is read."""
        assert self._near is None
        found: list[Config | ConfigError] = []
        try:
            self._near, far = socket.socketpair()
        except OSError as error:
            self._done(ConfigError(f"the configuration cannot be read now: {error.strerror}"))
            return
        self._selector.register(self._near, EVENT_READ, lambda _: self._end(found))
        self._timers.set("reload", time.monotonic() + _PATIENCE, lambda: self._end(found))
        try:
            threading.Thread(target=_read, args=(file, before, found, far), name="reload", daemon=True).start()
        except RuntimeError as error:
            found.append(ConfigError(f"the configuration cannot be read now: {error}"))
            far.close()

    def _end(self, found: list[Config | ConfigError]) -> None:
        """It is read, or takes too long: then what it finds later counts for nothing."""
        assert self._near is not None
        self._timers.cancel("reload")
        self._selector.unregister(self._near)
        self._near.close()
        self._near = None
        late = ConfigError(f"the configuration was not read within {_PATIENCE:g} s: a file it names does not answer")
        self._done(found[0] if found else late)


def _read(file: str, before: Config, found: list[Config | ConfigError], far: socket.socket) -> None:
    with far:  # its end is the message
        try:
            found.append(check(file, before))
        except ConfigError as error:
            found.append(error)
        except Exception as error:  # a thread's edge: the asker must not wait for nothing
            log.exception("a bug while reading the configuration %s", facts(file=os.path.basename(file)))
            found.append(ConfigError(f"{file}: {error!r}"))


class Reloads:
    """Those who asked for another configuration, and what they are told.

    `current` is the configuration that counts; `take` carries another one out; `catalog` and `running` are the models
    and those that are loaded; `rescan` looks for models and calls back.
    """

    def __init__(
        self,
        selector: BaseSelector,
        timers: Timers,
        *,
        current: Callable[[], Config],
        take: Callable[[Config], None],
        catalog: Callable[[], Mapping[str, Entry]],
        running: Callable[[], set[str]],
        rescan: Callable[[Callable[[], None]], None],
    ) -> None:
        self._timers, self._current, self._take = timers, current, take
        self._catalog, self._running, self._rescan = catalog, running, rescan
        self._reader = Reader(selector, timers, self._read)
        self._asked: list[Answer] = []
        self._served: list[Answer] = []
        self._number = 0
        self._closed = False

    def close(self) -> None:
        """The server ends: nothing is taken over any more, and whoever asks is told so."""
        self._closed = True

    def ask(self, answer: Answer) -> None:
        """Reads the configuration again. `answer` is called once: at an error, or when models were looked for."""
        if self._closed:
            answer(_CLOSED)
            return
        self._asked.append(answer)
        if not self._reader.busy:
            self._begin()

    def _begin(self) -> None:
        self._served, self._asked = self._asked, []
        before = self._current()
        self._reader.read(before.file, before)

    def _read(self, found: Config | ConfigError) -> None:
        served, self._served = self._served, []
        if self._closed:
            for answer in (*served, *self._asked):
                answer(_CLOSED)
            return
        if isinstance(found, ConfigError):
            log.error("reload refused, the old configuration stays: %s", found)
            for answer in served:
                answer(Reloaded(error=str(found), table=found.table, key=found.key))
        else:
            self._carry_out(found, served)
        if self._asked:
            self._begin()

    def _carry_out(self, fresh: Config, served: list[Answer]) -> None:
        old, before, running = self._current(), dict(self._catalog()), self._running()
        self._take(fresh)
        self._number += 1
        timer, waiting = ("reloaded", self._number), list(served)

        def tell(complete: bool) -> None:
            self._timers.cancel(timer)
            outcome = difference(before, self._catalog(), old, fresh, running)
            answers, waiting[:] = list(waiting), []
            for answer in answers:
                answer(msgspec.structs.replace(outcome, complete=complete))

        self._timers.set(timer, time.monotonic() + _PATIENCE, lambda: tell(False))
        self._rescan(lambda: tell(True))
