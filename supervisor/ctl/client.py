"""Requests to the server, and what its answers mean."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from supervisor.ctl.address import Address
from supervisor.ctl.connection import Connection
from supervisor.ctl.errors import CtlError, Refused, Unreachable
from supervisor.schema import near

_PATIENCE = 30.0  # seconds in which an answer begins, unless one was asked to take longer
_LARGEST = 64 * 2**20  # bytes of an answer, or of a line
_PIECE = 2**16

Query = Mapping[str, str]


class Reply:
    """An answer's body. What goes wrong with the connection meanwhile is Unreachable."""

    def __init__(self, address: Address, response: http.client.HTTPResponse) -> None:
        self._address, self._response = address, response

    def read(self) -> bytes:
        with _told(self._address):
            return self._response.read(_LARGEST)

    def pieces(self) -> Iterator[bytes]:
        """As they come, to the end."""
        while True:
            with _told(self._address):
                piece = self._response.read1(_PIECE)
            if not piece:
                return
            yield piece

    def lines(self) -> Iterator[bytes]:
        """Each with its end of line, to the end."""
        while True:
            with _told(self._address):
                line = self._response.readline(_LARGEST)
            if not line:
                return
            yield line


class Client:
    """Each request has a connection of its own, so a client may be used by several threads."""

    def __init__(self, address: Address, key: str = "") -> None:
        self.address, self._key = address, key

    def get(self, path: str, query: Query | None = None) -> Any:
        """The answer's JSON. Raises Refused, Unreachable, as all of these do."""
        return _json(self._whole("GET", path, query))

    def text(self, path: str, query: Query | None = None) -> str:
        return self._whole("GET", path, query).decode("utf-8", "replace")

    def post(self, path: str, body: Mapping[str, Any], *, patience: float | None = _PATIENCE) -> Any:
        return _json(self._whole("POST", path, None, body, patience))

    def delete(self, path: str, query: Query) -> Any:
        return _json(self._whole("DELETE", path, query, None, None))

    @contextmanager
    def stream(
        self, path: str, query: Query | None = None, headers: Query | None = None, patience: float | None = None
    ) -> Iterator[Reply]:
        """An answer that is read as it comes."""
        with self._open("GET", path, query, None, patience, headers) as reply:
            yield reply

    def _whole(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Mapping[str, Any] | None = None,
        patience: float | None = _PATIENCE,
    ) -> bytes:
        with self._open(method, path, query, body, patience) as reply:
            return reply.read()

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Mapping[str, Any] | None,
        patience: float | None,
        headers: Query | None = None,
    ) -> Iterator[Reply]:
        target = self.address.base + quote(path) + (f"?{urlencode(query)}" if query else "")
        with closing(Connection(self.address, patience)) as connection:
            with _told(self.address):
                connection.request(method, target, _encoded(body), self._headers(body) | dict(headers or {}))
                response = connection.getresponse()
            reply = Reply(self.address, response)
            if response.status >= 300:
                raise self._refusal(reply, response)
            yield reply

    def _headers(self, body: Mapping[str, Any] | None) -> dict[str, str]:
        found = {"Accept": "application/json, text/event-stream, text/plain"}
        if body is not None:
            found["Content-Type"] = "application/json"
        return found | ({"Authorization": f"Bearer {self._key}"} if self._key else {})

    def _refusal(self, reply: Reply, response: http.client.HTTPResponse) -> CtlError:
        if response.status < 400:
            place = response.headers.get("location", "elsewhere")
            return CtlError(f"{self.address} redirects to {place}: name the server itself by --url")
        error = _error(reply.read())
        return Refused(response.status, error, self._hint(response.status, str(error.get("code", ""))))

    def _hint(self, status: int, code: str) -> str:
        if status == 401:
            what = "it does not know this key" if self._key else "no key was sent"
            return f"{what}: --key-file FILE or LLAMA_SUPERVISOR_KEY"
        if not code:
            return f"is it llama-supervisor that answers at {self.address}?"
        return ""


def unknown_model(client: Client, name: str, refused: Refused) -> Refused:
    """The same with what may have been meant."""
    try:
        known = [word for model in client.get("/models")["data"] for word in (model["id"], *model["aliases"])]
    except (CtlError, KeyError, TypeError):
        return refused
    return Refused(refused.status, refused.error, near(name, known) or "`ctl status` lists the models")


def _encoded(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise CtlError("the answer is not JSON: is it llama-supervisor that answers?") from None


def _error(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


@contextmanager
def _told(address: Address) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: Address, error: Exception) -> Unreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not trusted ({error.verify_message}); --cacert FILE names one that is"
    elif isinstance(error, ssl.SSLError):
        why = "it does not speak TLS, or not with us; is it http:// rather than https://?"
    elif isinstance(error, ConnectionRefusedError | FileNotFoundError):
        why = "nobody listens there; is the server running? --url or --config FILE says where it is"
    elif isinstance(error, TimeoutError):
        why = "it did not answer in time"
    elif isinstance(error, http.client.HTTPException | ConnectionError):
        why = f"the connection ended ({error or type(error).__name__})"
    else:
        why = getattr(error, "strerror", None) or str(error)
    return Unreachable(f"{address}: {why}")
