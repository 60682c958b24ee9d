"""The root's side of the scan child: starts it, asks it, and takes what it finds into the catalog.

The child stays as long as there is a folder to watch. A file that does not answer ends the child, not the scan: the
next child leaves its folder out, until somebody asks for everything again.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable

import msgspec

from supervisor import catalog, config, keepsakes, ladder, restart
from supervisor.catalog import Findings
from supervisor.control import (
    Discard,
    Discarded,
    Entry,
    FolderChanged,
    Footprint,
    KeepReport,
    Known,
    Pong,
    Remember,
    Scan,
    Scanned,
    Stuck,
    ToRoot,
)
from supervisor.crash import CrashReport
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.nursery import Ended, Nursery, Ward
from supervisor.process import StartFailed
from supervisor.timers import Timers

log = logging.getLogger("root")
_REPORT_DELAY = 1.0  # seconds until a crash report is written: what died is to come back first
_MOST_REPORTS = 64  # that wait for it; more, and the oldest of them are lost
_NOISE = 0.02  # of the memory of a load
_VARIES = 1.5  # times, of its length
_ENTRY = "supervisor.scan:main"
_POLICY = config.Restart(backoff=1.0, max_deaths=5)

Listed = Callable[[dict[str, Entry], tuple[int, ...]], None]


class Library:
    """Owner of the scan child. `listed` is called with all models, and the bytes of each GPU, when there is news."""

    def __init__(self, nursery: Nursery, timers: Timers, settings: config.Config, listed: Listed) -> None:
        self._nursery, self._timers, self._config, self._listed = nursery, timers, settings, listed
        self._known = Findings()
        self._fresh = Findings()  # what the scan under way has found
        self._ward: Ward | None = None
        self._number = 0
        self._wanted = False  # a scan is under way, or will be as soon as there is a child
        self._dismissed = False  # the child was told to go
        self._skip: set[str] = set()
        self._waiting: list[Callable[[], None]] = []
        self._unsaved: dict[str, Footprint] = {}
        self._reports: list[CrashReport] = []
        self._entries: dict[str, Entry] = {}
        self._expected: set[str] = set()  # models that are being fetched
        self._condemned: set[str] = set()  # models that are being deleted
        self._discards: dict[str, tuple[Discard, Callable[[str], None]]] = {}
        self._reported: set[str] = set()
        self._history, self._draw = restart.History(), random.Random()  # noqa: S311 - spreads restarts
        self._closing = False

    def rescan(self, done: Callable[[], None] | None = None) -> None:
        """Looks for everything again, folders that did not answer included. `done` is called at the end of it."""
        if done is not None:
            self._waiting.append(done)
        self._skip.clear()
        self._scan()

    def reconfigure(self, settings: config.Config) -> None:
        """Another configuration: what it names and what was found are put together anew; `rescan` does more."""
        self._config = settings
        self._tell()

    def remember(self, entry: Entry, footprint: Footprint) -> None:
        """Keeps what a load took: it replaces the estimate."""
        if entry.card is None or not footprint.devices:
            return
        key = catalog.memory_key(entry.model, entry.card)
        if not _close(self._known.memory.get(key), footprint):
            self._known.memory[key] = self._unsaved[key] = footprint
            self._fresh.memory[key] = footprint
            self._save()
            self._tell()

    def report(self, report: CrashReport) -> None:
        """Keeps what is known of a death, soon; the root itself writes no file, which might take its time."""
        if self._config.state.crash_reports and not self._closing:
            self._reports = [*self._reports, report][-_MOST_REPORTS:]
            if not self._timers.pending("reports"):
                self._timers.set("reports", time.monotonic() + _REPORT_DELAY, self._save)

    # -- fetching and deleting --------------------------------------------------------------------------------

    @property
    def autodownload(self) -> bool:
        """Whether a model of the configuration is fetched when somebody wants it."""
        return self._config.sources.autodownload

    def expect(self, name: str) -> None:
        """Lists a model of which there are no files yet."""
        self._expected.add(name)
        self._tell()

    def expected_no_more(self, name: str) -> None:
        """From now on it is listed if a scan has found it."""
        if name in self._expected:
            self._expected.discard(name)
            self._tell()

    def condemn(self, name: str) -> None:
        """Lists it no more, whatever scans find."""
        self._condemned.add(name)
        self._expected.discard(name)
        self._tell()

    def pardon(self, name: str) -> None:
        """What scans find from now on counts again."""
        self._condemned.discard(name)
        for known in (self._known, self._fresh):
            known.found.pop(("cache", name), None)

    def discard(self, name: str, paths: tuple[str, ...], keep: tuple[str, ...], done: Callable[[str], None]) -> None:
        """Has files of a cache deleted. `done` is called with what went wrong, or ""."""
        order = Discard(name, paths, keep, self.state)
        self._discards[name] = order, done
        if (ward := self._child()) is not None:
            self._nursery.send(ward, order)
        elif not self._closing:
            self._timers.set(("discard", name), time.monotonic() + 1.0, lambda: self._discard_again(name))

    def _discard_again(self, name: str) -> None:
        if (waiting := self._discards.get(name)) is not None:
            order, done = waiting
            self.discard(name, order.paths, order.keep, done)

    def _discarded(self, name: str, problem: str) -> None:
        if (waiting := self._discards.pop(name, None)) is not None:
            waiting[1](problem)
        self._release()

    def close(self) -> None:
        """No more scans; the child goes."""
        self._save()
        self._closing = True
        self._timers.cancel("scan")
        self._timers.cancel("reports")
        self._answer()
        self._dismiss(hung=False)

    # -- asking the child --------------------------------------------------------------------------------------

    def _scan(self) -> None:
        """Asks for everything; an answer to an earlier question does not count any more."""
        self._wanted = True
        if (ward := self._child()) is None:
            return
        self._number += 1
        self._fresh = Findings(memory=dict(self._known.memory), gpus=self._known.gpus)
        sources = self._config.sources
        sought, skip = catalog.sought(self._config), tuple(sorted(self._skip))
        self._nursery.send(ward, Scan(self._number, sought, sources.models_dir, sources.hf_cache, self.state, skip))

    def _save(self) -> None:
        if not (self._unsaved or self._reports) or (ward := self._child()) is None:
            return
        for key, footprint in self._unsaved.items():
            self._nursery.send(ward, Remember(self.state, key, footprint))
        for report in self._reports:
            self._nursery.send(ward, self._keep(report))
        self._unsaved.clear()
        self._reports.clear()
        self._release()

    def _keep(self, report: CrashReport) -> KeepReport:
        settings = self._config.state
        content = msgspec.json.format(msgspec.json.encode(report), indent=2)
        return KeepReport(self.state, report.id, content, settings.crash_reports, settings.crash_reports_size)

    @property
    def state(self) -> str:
        return keepsakes.folder(self._config.state.dir, os.environ)

    def _child(self) -> Ward | None:
        """The child, a new one if there is none; None while it is not its time."""
        if self._ward is not None:
            return None if self._dismissed else self._ward
        if self._closing or self._timers.pending("scan"):
            return None
        try:
            self._ward, self._dismissed = self._nursery.start(_ENTRY, "scan", self), False
        except StartFailed as error:
            log.error("%s", error)
            self._again(0.0)
        return self._ward

    def _release(self) -> None:
        """Lets the child go when there is nothing left for it to do."""
        if not self._wanted and not self._discards and not self._config.sources.models_dir:
            self._dismiss(hung=False)

    def _dismiss(self, *, hung: bool) -> None:
        if self._ward is not None and not self._dismissed:
            self._dismissed = True
            self._nursery.stop(self._ward, ladder.hung if hung else ladder.polite)

    def _again(self, lived: float) -> None:
        """After a death: soon, but not for ever."""
        now = time.monotonic()
        self._history, delay = restart.after_death(self._history, now, lived, _POLICY, self._draw)
        if delay is None:
            log.error("the scan child keeps dying; SIGHUP tries again")
            self._history, self._wanted = restart.History(), False
            self._answer()
            return
        self._timers.set("scan", now + delay, self._scan)

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done()

    # -- what it finds -----------------------------------------------------------------------------------------

    def _take(self, part: Scanned) -> None:
        self._fresh.add(part.found)
        for problem in part.problems:
            log.warning("scan: %s", problem)
        if part.done:
            self._finish()
        elif part.found:
            self._tell()

    def _finish(self) -> None:
        self._fresh.complete = True
        self._known, self._fresh, self._wanted = self._fresh, Findings(), False
        self._tell()
        self._answer()
        self._save()
        self._release()

    def _tell(self) -> None:
        """Everything that is known: that of the scan under way, then what was known before."""
        found = {**self._known.found, **self._fresh.found}
        problems = [*self._known.problems, *self._fresh.problems]
        known = Findings(found, problems, self._known.memory, self._known.gpus, self._known.complete)
        listed, reports = catalog.entries(self._config, known, self._entries)
        for name in self._expected - listed.keys():
            listed[name] = catalog.awaited(self._config, name)
        self._entries = {name: entry for name, entry in listed.items() if name not in self._condemned}
        for report in reports:
            if report not in self._reported:
                log.warning("not listed: %s", report)
        self._reported = set(reports)
        self._listed(self._entries, self._known.gpus)

    def _recall(self, memory: dict[str, Footprint], gpus: tuple[int, ...]) -> None:
        """What was kept; what was measured since counts more."""
        for known in (self._known, self._fresh):
            known.memory = {**memory, **known.memory}
            known.gpus = gpus
        self._entries = {}

    # -- Owner -------------------------------------------------------------------------------------------------

    def heard(self, ward: Ward, message: ToRoot, fds: list[int]) -> None:
        if ward is not self._ward:
            return  # given up already
        match message:
            case Pong():
                pass
            case Known(memory, gpus):
                self._recall(memory, gpus)
            case Scanned():
                if message.number == self._number and self._wanted:
                    self._take(message)
            case Discarded(model, problem):
                self._discarded(model, problem)
            case FolderChanged():
                log.info("models_dir has changed")
                self._scan()
            case Stuck(path, folder):
                log.error("does not answer %s", facts(path=path, left_out=folder))
                self._skip.add(folder)
                self._dismiss(hung=True)
            case _:
                log.error("not a scan child's message %s", facts(message=type(message).__name__))

    def ended(self, ward: Ward, end: Ended) -> None:
        if ward is not self._ward:
            return
        self._ward = None
        if self._closing:
            return
        if not self._dismissed:
            for name in list(self._discards):
                self._discarded(name, "the scan child ended before it was done")
        if self._dismissed:
            self._resume()
        elif self._wanted or self._config.sources.models_dir:
            self._again(time.monotonic() - ward.born)

    def judged(self, ward: Ward, verdict: Verdict, reason: str) -> None:
        if verdict is Verdict.HUNG:
            self._nursery.stop(ward, ladder.hung)

    def unkillable(self, ward: Ward) -> None:
        """It is stuck in the kernel, at a mount that is gone: another one takes its place."""
        if ward is self._ward:
            self._ward = None
            self._resume()

    def _resume(self) -> None:
        for name in list(self._discards):
            self._discard_again(name)
        if self._wanted:
            self._scan()
        else:
            self._save()


def _close(known: Footprint | None, footprint: Footprint) -> bool:
    """Whether it is what is known already: no two loads take the same number of pages, or the same time."""
    if known is None or known.devices.keys() != footprint.devices.keys() or known.kv != footprint.kv:
        return False
    if not known.load_ms / _VARIES <= footprint.load_ms <= known.load_ms * _VARIES:
        return False
    return all(abs(size - known.devices[name]) <= size * _NOISE for name, size in footprint.devices.items())
