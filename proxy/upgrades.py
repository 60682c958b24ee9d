"""What becomes of a client's offer to speak another protocol (`Upgrade: h2c`): nothing, the request is as any other.

The parser takes all that follows the headers of such a request for the other protocol's, its body as well, and a body
that comes later for the next request. So another parser reads the body, and what comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import httptools

Header = tuple[bytes, bytes]
_CALLS = ("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete")


def framing(headers: Iterable[Header]) -> list[Header]:
    """Those of a request's headers that say where its body ends; none if it has no body."""
    found = [header for header in headers if header[0] in (b"content-length", b"transfer-encoding")]
    return [] if found == [(b"content-length", b"0")] else found


def in_body(protocol: object, framed: Iterable[Header]) -> httptools.HttpRequestParser:
    """A parser that is at the beginning of a body with this framing, and calls the protocol from there on."""
    calls = _Calls(protocol)
    parser = httptools.HttpRequestParser(calls)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
    parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % header for header in framed))
    calls.heard = True
    return parser


class _Calls:
    """A protocol's, once `heard`."""

    def __init__(self, protocol: object) -> None:
        self.heard = False
        for name in _CALLS:
            setattr(self, name, partial(self._call, getattr(protocol, name)))

    def _call(self, call: Callable[..., None], *arguments: bytes) -> None:
        if self.heard:
            call(*arguments)
