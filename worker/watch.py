"""A machine of its own for a guide, where the reply shows its text as it is and splits nothing."""

from __future__ import annotations

from worker.chat.machine import Machine
from worker.text import TextStream


class Watch:
    """Reads along; what the machine gives is of no interest, only what it knows."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._text = TextStream()

    def feed(self, token: int, data: bytes) -> None:
        self.machine.feed(self._text.feed(data or self.machine.shown.get(token, b"")))
