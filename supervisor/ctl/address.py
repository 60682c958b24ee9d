"""Where the server is: from a URL, or from the configuration it was started with."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from supervisor import configfile
from supervisor.config import ConfigError, Server, parse_listen
from supervisor.ctl.errors import BadUsage
from supervisor.modelfile import below
from supervisor.schema import Invalid, convert

_EXPECTED = 'expected "http://host:port", "https://host:port" or "unix:/path"'


@dataclass(frozen=True)
class Address:
    """`socket` is a unix socket's path or ""; `base` the path below which everything is.

    `certificate`: a PEM file to trust instead of the system's; `pinned`: it is the server's own, whatever its name.
    """

    host: str = ""
    port: int = 0
    socket: str = ""
    base: str = ""
    tls: bool = False
    certificate: str = ""
    pinned: bool = False

    def __str__(self) -> str:
        if self.socket:
            return f"unix:{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.base}"


def from_url(text: str, certificate: str = "") -> Address:
    """Raises BadUsage."""
    if text.startswith("unix:"):
        return Address(socket=_socket(text.removeprefix("unix:").removeprefix("//"), text))
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise _wrong(text) from None
    if parts.username is not None or parts.password is not None:
        raise BadUsage("--url: a key does not go into the address; use --key-file or LLAMA_SUPERVISOR_KEY")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _wrong(text)
    tls = parts.scheme == "https"
    base = parts.path.rstrip("/")
    if re.search(r"[^!-~]", base):
        raise _wrong(text)
    return Address(parts.hostname, port or (443 if tls else 80), "", base, tls, certificate)


def from_file(file: str) -> Address:
    """The first address of a configuration's [server]; the rest of the file is not looked at. Raises ConfigError."""
    path = Path(file)
    tree = configfile.read(path)
    try:
        return _from_server(tree.get("server", {}), path)
    except Invalid as error:
        raise ConfigError(f"{path}: {configfile.place(error.path)}: {error.reason}") from None


def default() -> Address:
    """Where a server is that was told nothing."""
    kind, host, port = parse_listen(Server().listen[0])
    assert kind == "tcp"
    return Address(host, port)


def _from_server(table: Any, path: Path) -> Address:
    server: Server = convert(table, Server, path=("server",))
    where = ("server", "listen", 0)
    kind, host, port = parse_listen(server.listen[0], where)
    base = server.root_path.rstrip("/")
    certificate = below(path.parent, server.tls_cert) if server.tls_cert else ""
    tls = bool(certificate)
    if kind == "unix":
        return Address("", 0, below(path.parent, host), base, tls, certificate, pinned=tls)
    if port == 0:
        raise Invalid(where, "a port, to find the server by", server.listen[0], "--url names the one it has now")
    return Address(_reachable(host), port, "", base, tls, certificate, pinned=tls)


def _reachable(host: str) -> str:
    """Who listens on all addresses is asked on the loopback one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "::1" if address.version == 6 else "127.0.0.1"


def _socket(path: str, text: str) -> str:
    try:
        parse_listen(f"unix:{path}")
    except Invalid:
        raise _wrong(text) from None
    return path


def _wrong(text: str) -> BadUsage:
    return BadUsage(f"--url: {_EXPECTED}, got {text[:200]!r}")
