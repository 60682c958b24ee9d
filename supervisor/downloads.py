"""The download children: one for each model that is being fetched. worker/download is what they do.

A model of the configuration is DOWNLOADING from the start; one that is new is listed once its files are known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from supervisor import ladder
from supervisor.control import (
    Answer,
    Download,
    Downloaded,
    DownloadFailed,
    Entry,
    Fetched,
    ModelCommand,
    Planned,
    Pong,
    ToRoot,
)
from supervisor.liveness import Verdict
from supervisor.log import facts
from supervisor.nursery import Ended, Nursery, Ward
from supervisor.process import StartFailed

log = logging.getLogger("root")
ENTRY = "worker.download.main:main"
MISSING = ("file_missing", "file_corrupt")  # what fetching it helps against

Reply = Callable[[Answer], None]


class Models(Protocol):
    """What downloads need of the fleet."""

    def entry(self, name: str) -> Entry | None: ...

    @property
    def catalog(self) -> Mapping[str, Entry]: ...

    def download_begun(self, name: str) -> bool: ...

    def download_moved(self, name: str) -> None: ...

    def download_ended(self, name: str, message: str = "", *, cancelled: bool = False) -> None: ...


class Shelf(Protocol):
    """What downloads need of the library."""

    @property
    def state(self) -> str: ...

    def expect(self, name: str) -> None: ...

    def expected_no_more(self, name: str) -> None: ...

    def rescan(self, done: Callable[[], None] | None = None) -> None: ...


@dataclass
class Run:
    """One download. `name`: the model, "" while that is not known; `error`: why it failed."""

    spec: str
    ward: Ward
    name: str = ""
    planned: bool = False
    finished: bool = False
    cancelled: bool = False
    error: DownloadFailed | None = None
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    partial: tuple[str, ...] = ()
    replies: list[tuple[int, Reply]] = field(default_factory=list)

    def answer(self, code: str = "", message: str = "") -> None:
        """Tells those who asked for it, once."""
        replies, self.replies = self.replies, []
        for ticket, reply in replies:
            reply(Answer(ticket, code, message, model=self.name))


class Downloads:
    """Owner of the download children. `token`: for the hub."""

    def __init__(self, nursery: Nursery, models: Models, shelf: Shelf, token: str = "", entry: str = ENTRY) -> None:
        self._nursery, self._models, self._shelf, self._token, self._entry = nursery, models, shelf, token, entry
        self._runs: dict[Ward, Run] = {}
        self._arriving: dict[str, Run] = {}  # fetched; a scan looks for them
        self._closing = False

    def pull(self, command: ModelCommand, reply: Reply) -> None:
        """Begins one; `reply` is called once the hub has said what there is to fetch."""
        if self._closing:
            reply(Answer(command.ticket, "shutting_down", "the server is shutting down"))
            return
        known = _named(command.model, self._models.catalog.values())
        name = known.model.name if known else ""
        if self._under_way(name, command.model):
            reply(Answer(command.ticket, "model_exists", f"{name or command.model} is being downloaded", model=name))
        elif known and (why := _complete(known)):
            reply(Answer(command.ticket, "model_exists", why, model=name))
        else:
            self._start(known.model.hf if known else command.model, name, (command.ticket, reply))

    def fetch(self, entry: Entry) -> None:
        """Begins one that nobody has ordered, for a model of the configuration whose files are missing."""
        if not self._closing and not self._under_way(entry.model.name, entry.model.hf) and not _complete(entry):
            self._start(entry.model.hf, entry.model.name)

    def files(self, name: str) -> Mapping[str, tuple[int, int]]:
        """Bytes that are there and bytes in all, by URL."""
        return run.files if (run := self._of(name)) else {}

    def partial(self, name: str) -> tuple[str, ...]:
        """Where the files are as long as they are not whole."""
        return run.partial if (run := self._of(name)) else ()

    @property
    def partials(self) -> tuple[str, ...]:
        """Those of all downloads: some share a projector."""
        return tuple(path for run in self._runs.values() for path in run.partial)

    def cancel(self, name: str) -> None:
        """Its process ends; what is there is kept, for the next time."""
        if run := self._of(name):
            run.cancelled = True
            self._nursery.stop(run.ward, ladder.cancel)

    def close(self) -> None:
        """All end."""
        self._closing = True
        for run in list(self._runs.values()):
            run.cancelled = True
            self._nursery.stop(run.ward, ladder.cancel)

    # -- inside -----------------------------------------------------------------------------------------------

    def _start(self, spec: str, name: str, *asked: tuple[int, Reply]) -> None:
        try:
            ward = self._nursery.start(self._entry, f"dl:{name or spec}", self)
        except StartFailed as error:
            log.error("%s", error)
            for ticket, reply in asked:
                reply(Answer(ticket, "download_failed", str(error), model=name))
            return
        self._runs[ward] = Run(spec, ward, name, replies=list(asked))
        self._nursery.send(ward, Download(spec, self._shelf.state, self._token))
        if name and not self._models.download_begun(name):
            self._refuse(self._runs[ward], f"{name} is in use: unload it first")

    def _of(self, name: str) -> Run | None:
        return next((run for run in self._runs.values() if run.name == name), None) or self._arriving.get(name)

    def _under_way(self, name: str, spec: str, apart_from: Run | None = None) -> bool:
        runs = [run for run in (*self._runs.values(), *self._arriving.values()) if run is not apart_from]
        return any(run.spec.lower() == spec.lower() or (name and run.name == name) for run in runs)

    def _plan(self, run: Run, plan: Planned) -> None:
        """What it is about is known now: the model may be there, or be one that the configuration names."""
        run.planned = True
        if not run.name:
            known = _meant(plan.name, self._models.catalog.values())
            name = known.model.name if known else plan.name
            if self._under_way(name, plan.name, apart_from=run):
                self._refuse(run, f"{name} is being downloaded", name)
                return
            if known and (why := _complete(known)):
                self._refuse(run, why, name)
                return
            run.name = name
            if known is None:
                self._shelf.expect(name)
            if not self._models.download_begun(name):
                self._refuse(run, f"{name} is in use: unload it first", name)
                return
        run.files, run.partial = plan.files, plan.partial
        self._models.download_moved(run.name)
        run.answer()

    def _refuse(self, run: Run, message: str, name: str = "") -> None:
        run.name = name
        run.answer("model_exists", message)
        run.name, run.cancelled = "", True
        self._nursery.stop(run.ward, ladder.cancel)

    def _end(self, run: Run, end: Ended) -> None:
        error = run.error or DownloadFailed("download_failed", _unexpected(run, end))
        run.answer(error.code, error.message)
        if not run.name:
            return
        text = "cancelled on request" if run.cancelled else error.message
        log.log(
            logging.INFO if run.cancelled else logging.WARNING, "not downloaded %s", facts(model=run.name, why=text)
        )
        self._models.download_ended(run.name, text, cancelled=run.cancelled)
        self._shelf.expected_no_more(run.name)

    def _arrived(self, run: Run) -> None:
        """A scan has looked for it."""
        del self._arriving[run.name]
        entry = self._models.entry(run.name)
        found = entry is not None and entry.card is not None and not entry.card.cause
        problem = entry.card.problem if entry is not None and entry.card is not None else "no scan has found it"
        self._models.download_ended(run.name, "" if found else f"its files are there, but: {problem}")
        self._shelf.expected_no_more(run.name)

    # -- Owner -------------------------------------------------------------------------------------------------

    def heard(self, ward: Ward, message: ToRoot, fds: list[int]) -> None:
        run = self._runs[ward]
        match message:
            case Pong():
                pass
            case _ if run.cancelled:
                pass
            case Planned():
                self._plan(run, message)
            case Fetched(files):
                run.files = files
                self._models.download_moved(run.name)
            case Downloaded():
                run.finished = True
            case DownloadFailed():
                run.error = message
            case _:
                log.error("not a download's message %s", facts(role=ward.role, message=type(message).__name__))

    def ended(self, ward: Ward, end: Ended) -> None:
        run = self._runs.pop(ward)
        if run.finished and run.name and not self._closing:
            log.info("downloaded %s", facts(model=run.name, took=f"{end.lived:.1f}s"))
            self._arriving[run.name] = run
            self._shelf.rescan(lambda: self._arrived(run))
        else:
            self._end(run, end)

    def judged(self, ward: Ward, verdict: Verdict, reason: str) -> None:
        if verdict is Verdict.HUNG:
            self._runs[ward].error = DownloadFailed("download_failed", f"the download hung: {reason}")
            self._nursery.stop(ward, ladder.hung)

    def unkillable(self, ward: Ward) -> None:
        if run := self._runs.pop(ward, None):
            self._end(run, Ended(-9, (), ""))


def _named(text: str, entries: Collection[Entry]) -> Entry | None:
    """The model with this id or alias; then the one whose files this is."""
    for entry in entries:
        if text in (entry.model.name, *entry.model.aliases):
            return entry
    return _meant(text, entries)


def _meant(spec: str, entries: Collection[Entry]) -> Entry | None:
    """The model that is "user/repo:QUANT", by its name or by its key `hf`, in whatever case."""
    asked = spec.lower()
    named = [entry for entry in entries if entry.model.name.lower() == asked]
    same = [entry for entry in entries if entry.model.hf.lower() == asked]
    any_of_it = [entry for entry in entries if entry.model.hf.lower() == asked.partition(":")[0]]
    return next(iter([*named, *same, *[entry for entry in any_of_it if not _complete(entry)]]), None)


def _complete(entry: Entry) -> str:
    """Why there is nothing to fetch for this model; "" if there is."""
    if entry.card is not None and entry.card.cause not in MISSING:
        return f"{entry.model.name} is there already"
    if entry.source != "cache" and not entry.model.hf:
        return f"{entry.model.name} is a file that the configuration names, not a repository"
    return ""


def _unexpected(run: Run, end: Ended) -> str:
    last = f": {end.log_tail[-1]}" if end.log_tail else ""
    return f"the download of {run.spec} ended with exit code {end.code}{last}; asked again, it goes on"
