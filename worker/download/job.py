"""One download from beginning to end: plan, room, each file, links. Runs in a thread of the download child."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from supervisor import hub, pulled
from supervisor.control import Download, Downloaded, DownloadFailed, Fetched, Message, Planned
from worker.download import remote, transfer
from worker.download.cache import Cache
from worker.download.failure import Cancelled, Failed, clean
from worker.download.remote import Part, Plan

_RESERVE = 64 * 2**20  # bytes of room that are left for others

Free = Callable[[Cache], int]


class Job:
    """What `order` asks for. `tell` gets what the root is to know; `free` is for tests."""

    def __init__(self, order: Download, tell: Callable[[Message], None], free: Free = Cache.free) -> None:
        self._order, self._tell, self._free = order, tell, free
        self._stop = threading.Event()
        self._files: dict[str, tuple[int, int]] = {}
        self.steps = 0  # grows as long as it goes on

    @property
    def files(self) -> Fetched:
        """How far it is."""
        return Fetched(dict(self._files))

    def stop(self) -> None:
        """Ends it soon; what is there stays."""
        self._stop.set()

    def run(self) -> None:
        """All of it. The last thing that is told is Downloaded or DownloadFailed, unless it was stopped."""
        try:
            self._run()
        except Cancelled:
            return
        except Failed as error:
            self._tell(DownloadFailed(error.code, clean(str(error), self._order.token)))
        except OSError as error:
            self._tell(DownloadFailed("download_failed", clean(_trouble(error), self._order.token)))

    def _run(self) -> None:
        plan = remote.plan(self._order.spec, self._order.token, self.wait)
        cache = Cache(hub.caches(os.environ).hub, plan)
        self._files = {part.url: (cache.begun(part), part.size) for part in plan.parts}
        self._room(cache, plan)
        self._tell(Planned(plan.name, dict(self._files), tuple(cache.partial(part) for part in plan.parts)))
        for part in plan.parts:
            with cache.locked(part, self.wait):
                self._fetch(cache, part)
        cache.publish()
        pulled.add(self._order.state, plan.name)
        self._tell(self.files)
        self._tell(Downloaded())

    def _room(self, cache: Cache, plan: Plan) -> None:
        """Raises Failed, OSError."""
        need, have = cache.missing(plan.parts), self._free(cache)
        if need and need + _RESERVE > have:
            text = f"{plan.name} needs {need:,} bytes more in {cache.folder}, where {have:,} are free"
            raise Failed(f"{text}, of which {_RESERVE:,} are left alone")

    def _fetch(self, cache: Cache, part: Part) -> None:
        watcher = _Watch(self, part)
        if cache.has(part) and transfer.right(part, cache.blob(part), watcher.moved):
            return
        transfer.fetch(part, cache.partial(part), self._order.token, watcher)
        cache.keep(part)

    def moved(self, part: Part, size: int) -> None:
        self.steps += 1
        self._files[part.url] = (min(size, part.size), part.size)
        if self._stop.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Raises Cancelled if it is to stop."""
        self.steps += 1
        if self._stop.wait(seconds):
            raise Cancelled


class _Watch:
    """Tells a Job of one part."""

    def __init__(self, job: Job, part: Part) -> None:
        self._job, self._part = job, part

    def moved(self, size: int) -> None:
        self._job.moved(self._part, size)

    def wait(self, seconds: float) -> None:
        self._job.wait(seconds)


def _trouble(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room left on the disk{f' for {error.filename}' if error.filename else ''}; what is there is kept"
    return f"{error.filename or 'the cache'}: {error.strerror or error}"
