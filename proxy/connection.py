"""One HTTP connection: uvicorn's, with a bound on everything that it leaves without one. RELIABILITY.md, 13.

deadlines   a request's headers; the pause between two requests, whatever is sent in it; the rest of a body that was
            answered before it came; an answer that its client does not take
sizes       headers, and what is nothing yet: a line, a trailer or a chunk's head without an end; requests that do not
            wait for the answers to those before them

The parser is httptools, whatever else is installed. After what is no HTTP it can go on no more: what was asked before
is answered first, then that is refused, and the connection ends.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from http import HTTPStatus

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from proxy import upgrades
from proxy.context import Context, respond
from proxy.deadline import Deadline
from proxy.errors import ApiError, BadRequest
from supervisor.config import Server as Settings

# Bytes that the kernel takes beyond what is on its way. It would take 4 MiB of a client that does not read, and nobody
# would know that it does not (measured).
_UNSENT = 128 * 2**10
_SPARE = 256  # descriptors that clients cannot take
_IGNORED = 16 * 2**20  # bytes that a client may send on after what was refused, while it waits for answers
_LINGER = 2.0  # seconds for a client to take a refusal: closed at once, it would be lost with what was not read


class State(ServerState):
    """What all connections share. `emptied` is set when the last of them is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.emptied = asyncio.Event()


class Connection(HttpToolsProtocol):
    server_state: State
    settings = Settings()

    # -- of the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > room():
            transport.abort()  # without a word: there is no descriptor to spare for more
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self._clock, self._taking = Deadline(self._late), Deadline(self._stall)
        self._answered: RequestResponseCycle | None = None  # the request that is being answered
        self._open = 0  # requests that have come and are not answered in full
        self._head = True  # the parser is before or in the headers of a request, not in its body
        self._header_bytes = self._nothing = 0
        self._refusal: ApiError | None = None
        self._clock.set(self.settings.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clock.clear()
        self._taking.clear()
        for cycle in filter(None, (self._answered, *(waiting for waiting, _ in self.pipeline))):
            cycle.disconnected = True  # uvicorn tells the last one only
            cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        if not self.connections:
            self.server_state.emptied.set()

    def data_received(self, data: bytes) -> None:
        self._nothing += len(data)
        if self._refusal is not None or self.transport.is_closing():
            self._ignore()
            return
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
            self._bound(self._nothing)
        except ApiError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ApiError) else BadRequest(f"the request is not HTTP: {error}"))
        if not self._clock.runs and self._open == 0 and self.timeout_keep_alive_task is None:
            self._clock.set(self.settings.keep_alive)  # something came between two requests that begins none

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.set(self.settings.stream_backlog_timeout)

    def resume_writing(self) -> None:
        self._taking.clear()
        super().resume_writing()

    # -- of the parser ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["cut"] = self.transport.abort
        self._header_bytes = self._nothing = 0
        self._clock.set(self.settings.header_timeout)

    def on_url(self, url: bytes) -> None:
        self._weigh(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._weigh(len(name) + len(value) + 4)
        if self._head:  # else a trailer: too late to say who asks, or for what
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._clock.clear()
        if (version := self.parser.get_http_version()) not in ("1.0", "1.1"):
            raise BadRequest(f"the request is HTTP/{version}, not HTTP/1.1")
        if self.parser.get_method() == b"CONNECT":
            raise BadRequest("CONNECT is not possible here")
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise BadRequest("the request has more than one Host")
        if self._open > (limit := self.settings.max_pipelined):
            text = f"more than {limit} requests that do not wait for an answer ([server].max_pipelined)"
            raise ApiError("queue_full", text, limit=limit)
        self.app = _crowded if len(self.connections) > self.settings.max_connections else self.config.loaded_app
        super().on_headers_complete()
        self.flow.resume_reading()  # else the end of a client would not be seen while its requests wait
        self._open += 1
        self._head = False

    def on_body(self, body: bytes) -> None:
        self._nothing = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and upgrades.framing(self.headers):
            return  # the parser takes the body for another protocol's; see _feed
        self._clock.clear()
        self._head = True
        super().on_message_complete()

    # -- of the answers -----------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._open -= 1
        if self._clock.runs or (self.cycle.response_complete and self.cycle.more_body):  # the latter: as with 413
            self._clock.set(self.settings.header_timeout)  # from now on the rest may come, for a while
        super().on_response_complete()
        if self._refusal is not None and not self._open:
            self._say_no(self._refusal)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if framed := upgrades.framing(self.headers):
                    self.parser = upgrades.in_body(self, framed)
            else:
                break

    def _weigh(self, size: int) -> None:
        self._nothing = 0
        self._header_bytes += size
        self._bound(self._header_bytes)

    def _bound(self, size: int) -> None:
        if size > (limit := self.settings.max_headers):
            text = f"the headers exceed {limit} bytes ([server].max_headers)"
            raise ApiError("headers_too_large", text, limit=limit)

    def _refuse(self, error: ApiError) -> None:
        """What was asked before is answered first. Of a request whose body broke off, the app sees the end."""
        self._refusal = error
        self._clock.clear()
        if not self._head and self.cycle.response_started:
            self.transport.close() if self.cycle.response_complete else self.transport.abort()
            return
        if not self._head:
            self._open -= 1
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            self.cycle.disconnected, self.cycle.waiting_for_100_continue = True, False
            self.cycle.message_event.set()
        if not self._open:
            self._say_no(error)

    def _say_no(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()  # for the client's end
        body, reason = error.body(), HTTPStatus(error.status).phrase
        head = f"HTTP/1.1 {error.status} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._clock.set(_LINGER)
        else:
            self.transport.close()

    def _late(self) -> None:
        if self._open:  # its turn has not come
            self._clock.set(self.settings.header_timeout)
        else:
            self.transport.abort()

    def _ignore(self) -> None:
        if self._nothing > _IGNORED:
            self.transport.abort()

    def _stall(self) -> None:
        """The client does not take its answer."""
        context = self._answered.scope["state"].get("context") if self._answered else None
        context.stall() if isinstance(context, Context) else self.transport.abort()


def room() -> int:
    """Connections that this process has descriptors for: links and logs need some, whatever clients do."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed - min(_SPARE, allowed // 4)


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    most = Connection.settings.max_connections
    error = ApiError("queue_full", f"more than {most} connections at once ([server].max_connections)", limit=most)
    error.extra = [(b"connection", b"close")]
    await respond(send, error)
