"""uvicorn, held to our rules: no signals of its own, sockets that the root has bound, slow and huge requests bounded.

What uvicorn does not bound: the time until a request's headers are complete, their size, and the rest of a body that
was answered before it came. RELIABILITY.md, 13.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from proxy.context import respond
from proxy.errors import ApiError, BadRequest
from supervisor.config import Server as Settings

# Bytes that the kernel takes beyond what is on its way. It would take 4 MiB of a client that does not read, and nobody
# would know that it does not (measured).
_UNSENT = 128 * 2**10
_SPARE = 256  # descriptors that clients cannot take
FLUSH_TIMEOUT = 5  # seconds for clients to take the last bytes when the server ends


class Server(uvicorn.Server):
    """Serves until `finish`; `stop_accepting` lets running requests end."""

    server_state: _State

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        Connection.settings = settings
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.forwarded_allow_ips),
            forwarded_allow_ips=list(settings.forwarded_allow_ips),
            ssl_certfile=settings.tls_cert or None,
            ssl_keyfile=settings.tls_key or None,
            timeout_keep_alive=max(1, round(settings.keep_alive)),
            timeout_graceful_shutdown=FLUSH_TIMEOUT,
        )
        super().__init__(config)
        self._finish = asyncio.Event()
        self.server_state = _State()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The root decides when this process ends; uvicorn's handlers would end it at ^C, before the drain."""
        yield

    async def start(self, sockets: Sequence[socket.socket]) -> asyncio.Task[None]:
        """Serves on the sockets in a task; returns once it accepts."""
        task = asyncio.get_running_loop().create_task(self.serve(list(sockets)))
        self._listening = asyncio.Event()
        waiter = asyncio.ensure_future(self._listening.wait())
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if task.done():
            task.result()
        return task

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    def stop_accepting(self) -> None:
        """Closes the listening sockets; connections stay, and their requests are answered."""
        for server in self.servers:
            server.close()

    def finish(self) -> None:
        """Ends the server once the open answers have been flushed, within FLUSH_TIMEOUT."""
        self.should_exit = True
        self._finish.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # each second, for the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finish.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends idle connections at once and the others with their answers; uvicorn would look every 100 ms."""
        self.stop_accepting()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._flushed()
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()

    async def _flushed(self) -> None:
        while self.server_state.connections:
            self.server_state.emptied.clear()
            await self.server_state.emptied.wait()
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks)


class _State(ServerState):
    """What all connections share. `emptied` is set when the last of them is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.emptied = asyncio.Event()


class Connection(HttpToolsProtocol):
    """One connection, with what uvicorn leaves unbounded."""

    server_state: _State
    settings = Settings()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _room():
            transport.abort()  # without a word: there is no descriptor to spare for more
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self._clock: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._limit(self.settings.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unlimit()
        super().connection_lost(exc)
        if not self.connections:
            self.server_state.emptied.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["cut"] = self.transport.abort
        self._header_bytes = 0
        self._limit(self.settings.header_timeout)

    def on_url(self, url: bytes) -> None:
        self._weigh(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._weigh(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unlimit()
        self.app = _crowded if len(self.connections) > self.settings.max_connections else self.config.loaded_app
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._unlimit()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if (
            self.cycle.response_complete and self.cycle.more_body
        ):  # answered early, as with 413: it may send the rest, for a while
            self._limit(self.settings.header_timeout)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        error: ApiError = BadRequest("the request is not HTTP")
        if self._header_bytes > (limit := self.settings.max_headers):
            text = f"the headers exceed {limit} bytes ([server].max_headers)"
            error = ApiError("headers_too_large", text, limit=limit)
        body, reason = error.body(), HTTPStatus(error.status).phrase
        head = f"HTTP/1.1 {error.status} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()

    def _weigh(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self.settings.max_headers:
            raise ValueError("headers too large")  # the parser then calls send_400_response

    def _limit(self, seconds: float) -> None:
        self._unlimit()
        self._clock = self.loop.call_later(seconds, self.transport.abort)

    def _unlimit(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _room() -> int:
    """Connections that this process has descriptors for: links and logs need some, whatever clients do."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed - min(_SPARE, allowed // 4)


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    most = Connection.settings.max_connections
    error = ApiError("queue_full", f"more than {most} connections at once ([server].max_connections)", limit=most)
    error.extra = [(b"connection", b"close")]
    await respond(send, error)
