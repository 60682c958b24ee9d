"""sd_notify: what the root tells systemd. Protocol: sd_notify(3)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class Notifier:
    """Sends state to the service manager; does nothing where there is none.

    Takes NOTIFY_SOCKET and WATCHDOG_* out of the environment: a child must not speak for the root.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        micros = os.environ.pop("WATCHDOG_USEC", "")
        for_us = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_interval = int(micros) / 2e6 if micros.isdigit() and for_us else None
        """Seconds between two signs of life, half of what systemd allows; None without a watchdog."""

    def send(self, **states: str | int) -> None:
        """`send(READY=1, STATUS="serving")`. A dead or slow manager stops nobody."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(f"{key}={value}" for key, value in states.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), address)
