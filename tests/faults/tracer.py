"""A process that SIGKILL does not end: traced, it stops on its way out, where nothing reaches it, until it is let go.

What is seen in the field is a process stuck in a driver; to its parent this one looks the same. ptrace(2),
PTRACE_O_TRACEEXIT.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
import time
from types import TracebackType

from tests.faults.history import Absent

_SEIZE, _CONT, _TRACEEXIT, _EVENT_EXIT, _WALL = 0x4206, 7, 0x40, 6, 0x40000000


class Held:
    """`with Held(pid) as held:` from now on the process cannot end; `held.stuck` once it has tried to.

    Leaving lets it go. Raises Absent where this machine does not let us trace.
    """

    def __init__(self, pid: int) -> None:
        self.stuck = threading.Event()
        self._pid, self._release = pid, threading.Event()
        self._begun: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=self._trace, daemon=True)  # a tracer is a thread

    def __enter__(self) -> Held:
        self._thread.start()
        if error := self._begun.get():
            raise Absent(f"no tracing here: {os.strerror(error)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._release.set()
        self._thread.join(10)

    def _trace(self) -> None:
        ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        ptrace.restype = ctypes.c_long
        done = ptrace(_SEIZE, self._pid, 0, _TRACEEXIT)
        self._begun.put(ctypes.get_errno() if done else 0)
        while not done and not self._release.is_set():
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG | _WALL)
            except ChildProcessError:
                return  # it has gone
            if pid == 0:
                time.sleep(0.005)
            elif os.WIFSTOPPED(status):
                if status >> 16 == _EVENT_EXIT:
                    self.stuck.set()
                    self._release.wait()
                # another stop is that of a signal on its way: it is delivered
                ptrace(_CONT, self._pid, 0, 0 if status >> 16 else os.WSTOPSIG(status))
            else:
                return
        ptrace(17, self._pid, 0, 0)  # PTRACE_DETACH
