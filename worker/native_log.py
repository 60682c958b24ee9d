"""llama.cpp's log → Python's logging, and the error lines that say why a load failed.

A load writes over a thousand lines: debug is dropped first, info goes to the ring but not to stderr.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from worker import binding

_log = logging.getLogger("llama.cpp")
_LEVELS = {binding.LOG_INFO: logging.INFO, binding.LOG_WARN: logging.WARNING, binding.LOG_ERROR: logging.ERROR}
_FUNCTION = re.compile(r"^(?:\w+: )?(?:error loading model: )?")
_EXPECTED = ("> n_ctx_train",)  # the pool is for several sequences, each of which stays below n_ctx_train
_PLANNING = "sched_reserve:"
_KEPT = 20


class NativeLog:
    """Receives every line of llama.cpp; `errors` holds the first ones of level error since `clear`.

    `sizes` holds all lines about the size of buffers, of which a process allocates those of one model. Once it is
    loaded, `settled`, llama.cpp plans anew whenever another set of adapters has its turn: nobody needs to know.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.sizes: list[str] = []
        self.settled = False
        self._level = 0
        self._line = ""
        _listeners[:] = [self]
        binding.log_set(_callback, None)

    def clear(self) -> None:
        self.errors.clear()

    @property
    def reason(self) -> str:
        """The most telling error: the first one, as later ones only say which function gave up. "" if none."""
        return _FUNCTION.sub("", self.errors[0]) if self.errors else ""

    def receive(self, level: int, text: bytes) -> None:
        if level != binding.LOG_CONT:
            self._level, self._line = level, ""
        if self._level not in _LEVELS:
            return
        self._line += text.decode("utf-8", "replace")
        if not self._line.endswith("\n"):
            return
        line, self._line = self._line.strip(), ""
        if self._level == binding.LOG_ERROR and len(self.errors) < _KEPT:
            self.errors.append(line)
        if self.settled and self._level == binding.LOG_INFO and line.startswith(_PLANNING):
            return
        if " buffer size" in line:
            self.sizes.append(line)
        if line:
            quiet = self._level == binding.LOG_INFO or any(text in line for text in _EXPECTED)
            level = logging.INFO if quiet else _LEVELS[self._level]
            _log.log(level, "%s", line, extra={"ring_only": quiet})


_listeners: list[NativeLog] = []  # the last one made


def _hear(level: int, text: bytes, _: Any) -> None:
    for each in _listeners:
        each.receive(level, text)


_callback = binding.LogCallback(_hear)  # kept for good: the library has no more than its address
