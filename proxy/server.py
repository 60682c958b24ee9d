"""uvicorn, held to our rules: no signals of its own, sockets that the root has bound, connections that are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.types import ASGIApp

from proxy.connection import Connection, State
from supervisor.config import Server as Settings

FLUSH_TIMEOUT = 5  # seconds for clients to take the last bytes when the server ends


class Server(uvicorn.Server):
    """Serves until `finish`; `stop_accepting` lets running requests end."""

    server_state: State

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
            backlog=4096,  # the root's own, which this would lower
            timeout_keep_alive=max(1, round(settings.keep_alive)),
            timeout_graceful_shutdown=FLUSH_TIMEOUT,
        )
        super().__init__(config)
        self._finish = asyncio.Event()
        self.server_state = State()
        self.servers = []

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
        """uvicorn would give a TLS handshake a minute, in which nothing else bounds a connection."""
        loop, tls, backlog = asyncio.get_running_loop(), self.config.ssl, self.config.backlog
        patience = Connection.settings.header_timeout if tls else None
        for sock in sockets or ():
            server = await loop.create_server(
                self._connection, sock=sock, ssl=tls, ssl_handshake_timeout=patience, backlog=backlog
            )
            self.servers.append(server)
        self.started = True
        self._listening.set()

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, {})

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
