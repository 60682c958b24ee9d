"""CPU turns: workers on the same cores decode one after the other. A courtesy, not a lock. ENGINE.md, 19.

Two models that decode at once on the same cores collapse, as each team of threads spins while the other runs. The turn
is `flock` on a file that all workers share; the kernel drops it when a holder dies. A waiter gives up after `PATIENCE`
and decodes anyway, so that a holder that is stopped costs the others one wait, no more.
"""

from __future__ import annotations

import fcntl
import os
import threading
import types
from enum import Enum, auto

PATIENCE = 0.2  # seconds; with a step behind it, a stopped holder costs the others no more than 0.25
_HOLD = 0.8 * PATIENCE  # seconds that a step aims at: nobody should lose patience with one that runs


class Turn:
    """`with turn: decode()`. Does nothing while `crowd`, who compute on these cores, is 1.

    Until a worker is told how many they are, it takes its turns: its first decodes are not to disturb those who run.
    """

    def __init__(self, fd: int, patience: float = PATIENCE) -> None:
        """`fd` may be shared with other processes: it is opened anew, as a lock belongs to an open file description."""
        self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self._patience = patience
        self._held = False
        self._waiter = _Waiter(self._fd)
        self.crowd = 2

    @property
    def shared(self) -> bool:
        return self.crowd > 1

    def budget(self, seconds: float) -> float:
        """Seconds that a step should take which alone might take so many."""
        return min(seconds, _HOLD) if self.shared else seconds

    def __enter__(self) -> Turn:
        if self.shared:
            self._held = self._waiter.take(self._patience)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | types.TracebackType | None) -> None:
        if self._held:
            self._held = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)


class _State(Enum):
    IDLE = auto()
    BLOCKED = auto()  # the thread is in flock, and the engine waits for it
    GRANTED = auto()
    ABANDONED = auto()  # the thread is in flock, but the engine has given up waiting


class _Waiter:
    """A thread that blocks in flock so that the engine can wait with a deadline; a lock that comes late is let go."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mutex = threading.Lock()
        self._wanted = threading.Event()
        self._answered = threading.Condition(self._mutex)
        self._state = _State.IDLE
        self._thread: threading.Thread | None = None

    def take(self, patience: float) -> bool:
        """Whether the lock is ours now; waits at most `patience` seconds, and once only for one and the same holder."""
        with self._mutex:
            if self._state == _State.ABANDONED:
                return False  # still the holder that we gave up on: it may be stopped for good
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if not self._start():
                    return False
            self._state = _State.BLOCKED
            self._answered.wait_for(lambda: self._state == _State.GRANTED, patience)
            granted = self._state == _State.GRANTED
            self._state = _State.IDLE if granted else _State.ABANDONED
            return granted

    def _start(self) -> bool:
        """Has the thread wait for the lock; False if the system gives us none."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="turn", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        self._wanted.set()
        return True

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            with self._mutex:
                if self._state == _State.BLOCKED:
                    self._state = _State.GRANTED
                    self._answered.notify_all()
                else:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
                    self._state = _State.IDLE
