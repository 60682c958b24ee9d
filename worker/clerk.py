"""Saves slots into files and brings them back, in a thread of its own, one after the other. API.md, 7.2.

The thread reads and writes; what touches the cache it has done by the engine as errands, one at a time: so the engine
never waits for a disk, memory is bounded by a part, and of the sequences that run none waits longer than for one part.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from supervisor.log import facts
from worker.failure import RequestError
from worker.park_image import Filed
from worker.parked import Segment
from worker.prefix_tree import Ids, begins
from worker.protocol import Event, Failed, SlotAction, SlotDone
from worker.seams import Errand, Filing, Inbox, Key, Outbox
from worker.slot_files import SlotFiles
from worker.slots import PART, Piece, Slots

_log = logging.getLogger(__name__)
_MOST = 64  # that wait; one more is refused
T = TypeVar("T")


class Clerk:
    """`take`, `drop` and `close` are the engine's."""

    def __init__(self, slots: Slots, files: SlotFiles, inbox: Inbox, outbox: Outbox) -> None:
        self._slots, self._files, self._inbox, self._outbox = slots, files, inbox, outbox
        self._open: set[Key] = set()  # of requests that are still wanted
        self._waiting: queue.SimpleQueue[Filing] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, order: Filing) -> None:
        """Answered by SlotDone or Failed."""
        if len(self._open) >= _MOST:
            error = RequestError("queue_full", f"{_MOST} slots wait to be saved or restored", limit=_MOST)
            self._outbox.put(order.key[0], [_failed(order.key, error)])
            return
        self._open.add(order.key)
        self._waiting.put(order)
        if self._thread is None:
            # daemon: a disk that hangs must not keep the process from its end
            self._thread = threading.Thread(target=self._work, name="clerk", daemon=True)
            self._thread.start()

    def drop(self, key: Key) -> None:
        """Nobody waits for it any more: what was begun is undone."""
        self._open.discard(key)

    def close(self) -> list[Key]:
        """The engine leaves; whose requests are not done."""
        left = list(self._open)
        self._open.clear()
        return left

    @property
    def returning(self) -> bool:
        """Whether a slot comes back just now."""
        return self._slots.returning

    def give_way(self) -> bool:
        """It does not, as others need its room; whether there was one."""
        return self._slots.give_way()

    # -- the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            order = self._waiting.get()
            event = self._carried_out(order)
            if order.key in self._open:
                self._open.discard(order.key)
                self._outbox.put(order.key[0], [event])

    def _carried_out(self, order: Filing) -> Event:
        request, began = order.request, time.monotonic()
        try:
            tokens, size = self._do(order.key, request)
        except RequestError as error:
            return _failed(order.key, error)
        except Exception:
            _log.exception("a slot's state %s", facts(request=request.request_id, action=request.action))
            return _failed(order.key, RequestError("internal_error", f"the slot could not be {request.action}d"))
        return SlotDone(order.key[1], tokens, size, (time.monotonic() - began) * 1000)

    def _do(self, key: Key, request: SlotAction) -> tuple[int, int]:
        """Tokens, and bytes of the file. Raises RequestError."""
        self._check(key)
        match request.action:
            case "save":
                return self._save(key, request)
            case "restore":
                return self._restore(key, request)
            case "erase":
                return self._asked(lambda: self._slots.erase(request.slot)), 0

    def _save(self, key: Key, request: SlotAction) -> tuple[int, int]:
        plan = self._asked(lambda: self._slots.plan(request.slot))
        with self._files.new(request.filename, plan.adapters) as writer:
            while len(writer) < len(plan.segments):
                self._check(key)
                for segment, data in self._asked(lambda: self._slots.copy(plan, len(writer))):
                    writer.add(segment, data)
            size = writer.finish()
            self._check(key)
        return plan.segments[-1].end, size

    def _restore(self, key: Key, request: SlotAction) -> tuple[int, int]:
        """The whole file is checked before anything else happens."""
        found = self._files.read(request.filename)
        tokens = _text(found.parts)
        for _ in _read(found.parts):
            self._check(key)
        back = self._asked(lambda: self._slots.open(request.slot, tokens, found.adapters))
        try:
            for pieces in _read(found.parts):
                self._check(key)
                self._asked(partial(self._slots.fill, back, pieces))
            self._asked(lambda: self._slots.finish(back))
        except BaseException:
            self._asked(lambda: self._slots.abandon(back))
            raise
        return len(tokens), found.size

    def _check(self, key: Key) -> None:
        if key not in self._open:
            raise RequestError("cancelled", "cancelled")

    def _asked(self, work: Callable[[], T]) -> T:
        """What the engine finds. If it never does it has left, and the process ends with it."""
        done: Future[T] = Future()
        self._inbox.put(Errand(work, done))
        return done.result()


def _text(found: Sequence[tuple[Segment, Filed]]) -> Ids:
    """The tokens of a file. Raises RequestError if its segments are no slot's."""
    segments = [segment for segment, _ in found]
    if segments and all(one.start == 0 and begins(segments[-1].tokens, one.tokens) for one in segments):
        return segments[-1].tokens
    row = all(one.name == other.parent and one.end == other.start for one, other in pairwise(segments))
    if row and segments and segments[0].start == 0:
        return np.concatenate([segment.tokens for segment in segments])
    raise _damaged()


def _read(found: Sequence[tuple[Segment, Filed]]) -> Iterator[list[Piece]]:
    """The states, in parts that fit between two steps. Raises RequestError if one is damaged."""
    pieces: list[Piece] = []
    for segment, state in found:
        data = state.read()
        if data is None:
            raise _damaged()
        pieces.append((segment, data))
        if sum(len(each) for _, each in pieces) >= PART:
            yield pieces
            pieces = []
    if pieces:
        yield pieces


def _damaged() -> RequestError:
    return RequestError("invalid_value", "filename: the file is damaged", param="filename")


def _failed(key: Key, error: RequestError) -> Failed:
    return Failed(key[1], error.code, str(error), error.fields)
