"""Finds the process of a server on this machine: the root, which has bound the socket that one can connect to."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from supervisor.ctl.address import Address
from supervisor.ctl.connection import dial
from supervisor.ctl.errors import CtlError, Unreachable

_TITLE = b"lsv:root"  # supervisor.title
_LISTEN = "0A"  # proc_pid_net(5)
_OTHERWISE = "stop it where it was started: systemctl stop UNIT, docker stop NAME, or kill -TERM PID"


def find(address: Address) -> int:
    """The root's pid. Raises Unreachable, CtlError."""
    try:
        with dial(address) as sock:
            return _of_unix(sock) if address.socket else _of_tcp(sock, address)
    except OSError as error:
        raise Unreachable(f"{address}: {error.strerror or error}") from None


def _of_unix(sock: socket.socket) -> int:
    """The kernel knows who has called listen()."""
    size = struct.calcsize("3i")
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if pid in set(_roots()):
        return int(pid)
    inode = _unix_inode(sock.getpeername())
    return _owner({inode} if inode else set())


def _of_tcp(sock: socket.socket, address: Address) -> int:
    host, port = sock.getpeername()[:2]
    if sock.getsockname()[0] != host:  # whoever connects to this machine does so from the same address of it
        raise CtlError(f"{address} is on another machine; {_OTHERWISE}")
    return _owner(set(_listening(host, port)))


def _owner(inodes: set[str]) -> int:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in _roots():
        if wanted & set(_descriptors(pid)):
            return pid
    raise CtlError(f"no process of this user's on this machine has opened that address; {_OTHERWISE}")


def _roots() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    title = file.read(64)
            except OSError:
                continue
            if title.split(b" ")[0].rstrip(b"\0") == _TITLE:
                yield int(name)


def _descriptors(pid: int) -> Iterator[str]:
    """What the process has open; nothing if it is another user's."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue


def _listening(host: str, port: int) -> Iterator[str]:
    """Inodes of the sockets that listen there, or on all addresses."""
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for fields in _table(f"/proc/net/{table}"):
            if fields[3] == _LISTEN and _matches(fields[1], family, host, port):
                yield fields[9]


def _matches(local: str, family: int, host: str, port: int) -> bool:
    raw, _, number = local.partition(":")
    words = [int(raw[at : at + 8], 16) for at in range(0, len(raw), 8)]
    bound = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
    return int(number, 16) == port and bound in (host, "0.0.0.0", "::", f"::ffff:{host}")  # noqa: S104 - read, not bound


def _unix_inode(path: str) -> str:
    """Of the socket that listens there; "" if it is not in the table."""
    for fields in _table("/proc/net/unix"):
        if fields[-1] == path and fields[3] == "00010000":  # __SO_ACCEPTCON
            return fields[6]
    return ""


def _table(file: str) -> list[list[str]]:
    try:
        with open(file) as lines:
            return [line.split() for line in lines][1:]
    except OSError:
        return []
