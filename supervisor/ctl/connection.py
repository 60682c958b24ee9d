"""One HTTP connection of the standard library's: over TCP, TLS or a unix socket."""

from __future__ import annotations

import http.client
import socket
import ssl

from supervisor.ctl.address import Address
from supervisor.ctl.errors import BadUsage

_CONNECT = 5.0  # seconds


class Connection(http.client.HTTPConnection):
    """`patience`: seconds without a byte from the server before it is given up; None: any time."""

    def __init__(self, address: Address, patience: float | None) -> None:
        super().__init__(address.host or "localhost", address.port or None)
        self._address, self._patience = address, patience

    def connect(self) -> None:
        context = _context(self._address) if self._address.tls else None
        sock = dial(self._address)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=self._address.host or "localhost")
        sock.settimeout(self._patience)
        self.sock = sock


def dial(address: Address) -> socket.socket:
    """A socket that is connected to the server. Raises OSError."""
    if not address.socket:
        sock = socket.create_connection((address.host, address.port), _CONNECT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a wait may be long, and a machine may go
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(_CONNECT)
        sock.connect(address.socket)
    except OSError:
        sock.close()
        raise
    return sock


def _context(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.certificate or None)
    except (OSError, ssl.SSLError) as error:
        raise BadUsage(f"the certificate {address.certificate} cannot be read: {error}") from None
    if address.certificate:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be an authority's
    context.check_hostname = not address.pinned  # that very certificate is expected, not just anybody's of that name
    return context
