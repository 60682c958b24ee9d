"""A call that takes its time, and a look at things meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def meanwhile(call: Callable[[], T], look: Callable[[], None], every: float) -> T:
    """What the call returns or raises; until then `look` is called again and again, `every` so many seconds.

    The thread is a daemon: ^C ends the wait, not what is waited for.
    """
    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            result, error = done.get(timeout=every)
        except queue.Empty:
            look()
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]
