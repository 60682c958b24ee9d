"""The listening sockets: bound once, by the root, inherited by every proxy, so that no proxy's death refuses anyone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from supervisor.config import parse_listen

_BACKLOG = 4096
_FIRST_PASSED = 3  # SD_LISTEN_FDS_START


class ListenError(Exception):
    """An address cannot be listened on; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Listening, non-blocking sockets. `lent`: they are the service manager's, which goes on listening without us."""

    sockets: list[socket.socket] = field(default_factory=list)
    lent: bool = False

    def close(self) -> None:
        """Closes the sockets and removes the files of unix ones, unless they are another's."""
        for sock in self.sockets:
            if sock.family == socket.AF_UNIX and not self.lent:
                with suppress(OSError):
                    os.unlink(sock.getsockname())
            sock.close()


def open_all(addresses: Iterable[str]) -> Listeners:
    """The sockets that systemd passes, else one for each address. Raises ListenError."""
    if passed := _passed():
        return Listeners(passed, lent=True)
    opened = Listeners()
    try:
        for text in addresses:
            opened.sockets.append(_open(text))
    except ListenError:
        opened.close()
        raise
    return opened


def shown(sock: socket.socket) -> str:
    """Where clients connect: `http://127.0.0.1:8080` or `unix:/run/x.sock`."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _passed() -> list[socket.socket]:
    """Socket activation, sd_listen_fds(3). The variables leave the environment."""
    count, pid = os.environ.pop("LISTEN_FDS", "0"), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = [socket.socket(fileno=fd) for fd in range(_FIRST_PASSED, _FIRST_PASSED + int(count))]
    for sock in sockets:
        os.set_inheritable(sock.fileno(), False)
        sock.setblocking(False)
    return sockets


def _open(text: str) -> socket.socket:
    kind, host, port = parse_listen(text)
    try:
        sock = _unix(host) if kind == "unix" else _tcp(host, port)
    except OSError as error:
        raise ListenError(f"cannot listen on {text}: {_reason(error)}") from None
    sock.setblocking(False)
    return sock


def _tcp(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_dead_socket(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _is_dead_socket(path: str) -> bool:
    """A socket file that nobody listens on: left by a process that was killed."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(path) == errno.ECONNREFUSED
    return False


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use by another process"
    return error.strerror or str(error)
