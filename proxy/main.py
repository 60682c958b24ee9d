"""The proxy process: HTTP on sockets that the root has bound, pipes to the workers, orders from the root.

Its life: configured by the root's first message → listening → shutting down (requests refused, streams end) → stopped.
It ends at once when the control channel does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from typing import assert_never

import uvloop

from proxy.app import create_app
from proxy.feed import Feed
from proxy.limits import Limits
from proxy.models import Models
from proxy.root import Root
from proxy.server import Server
from proxy.services import Services
from proxy.views import Views
from supervisor import log as logs
from supervisor import title
from supervisor.boot import ORPHANED, Child
from supervisor.control import (
    Answer,
    Attach,
    Blamed,
    ConfigureProxy,
    ConfigureWorker,
    Died,
    Discard,
    Download,
    Drain,
    Figures,
    Finding,
    FromRoot,
    Inquired,
    Inquiry,
    KeepReport,
    KeyUse,
    Listed,
    Listening,
    Lost,
    ModelChanged,
    Neighbours,
    Peer,
    Phase,
    Ping,
    Pong,
    Reconfigure,
    Reloaded,
    Relog,
    Remember,
    Reopen,
    Ring,
    Roll,
    Scan,
    SetScales,
    ShutDown,
    Shutdown,
    Stop,
    Unlisted,
    Warm,
)
from supervisor.lease import Lease

log = logging.getLogger("proxy.main")


def main(child: Child, *listeners: socket.socket) -> int:
    """Runs until the root says Stop; returns the exit code."""
    return uvloop.run(_run(child, listeners))


async def _run(child: Child, listeners: tuple[socket.socket, ...]) -> int:
    return await Proxy(child, listeners).run()


class Proxy:
    """The process around the app."""

    def __init__(self, child: Child, listeners: tuple[socket.socket, ...]) -> None:
        self.role = child.role
        self.listeners = listeners
        self.steps = 0  # messages handled, for the root's eyes
        self.lease = Lease(time.monotonic())
        self.root = Root(child.control, self.handle, self.orphaned)
        self.services: asyncio.Future[Services] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self._server: Server | None = None
        self._look: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.terminate)
        services = await self.services
        self._server = Server(create_app(services), services.config.server)
        serving = await self._server.start(self.listeners)
        self.root.send(Listening())
        log.info("listening %s", logs.facts(sockets=len(self.listeners)))
        await self.stopped.wait()
        services.feed.close()
        self._server.finish()
        await serving
        services.logs.close()
        return 0

    def handle(self, message: FromRoot, fds: list[int]) -> None:
        """One message of the root."""
        self.steps += 1
        match message:
            case ConfigureProxy():
                self.configure(message)
            case Ping():
                self.pong(message)
            case ModelChanged() | Attach() | Drain() | Reopen() | Lost() | Answer() | Listed() | Unlisted():
                self.services.result().models.obey(message, fds)
                if isinstance(message, ModelChanged):
                    self.services.result().feed.changed(message)
                elif isinstance(message, Listed):
                    self.services.result().feed.listed(message)
                elif isinstance(message, Unlisted):
                    self.services.result().feed.unlisted(message)
            case Reloaded() | Blamed():
                self.services.result().models.obey(message, fds)
            case Relog(wanted):
                logs.configure(*wanted.form)
            case Reconfigure():
                self.services.result().models.obey(message, fds)
                self.services.result().reconfigure(message.config)
            case Figures() | Roll() | Inquired() | Inquiry() | Finding():
                self.services.result().views.obey(message, fds)
            case Died():
                self.services.result().feed.died(message)
            case Shutdown():
                self.shut_down(message.deadline)
            case Stop():
                self.stopped.set()
            case KeyUse():
                self.services.result().limits.heard(message)
            case Ring():
                if fds:  # else this process has no descriptors left
                    self.services.result().logs.take(message.source, fds[0])
            case ConfigureWorker() | Warm() | Peer() | Neighbours() | SetScales() | Download():
                raise AssertionError(f"not a proxy's message: {message}")
            case Scan() | Remember() | KeepReport() | Discard():
                raise AssertionError(f"not a proxy's message: {message}")
            case _:
                assert_never(message)

    def configure(self, message: ConfigureProxy) -> None:
        logs.configure(*message.config.log.form)
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it tells of a life that the root tells already
        models = Models(message.config, message.models, self.root.send, message.entries)
        tell = self.root.send if message.config.server.proxies > 1 else None
        limits = Limits(message.config.keys, message.index, tell)
        views = Views(models, self.root.send)
        feed = Feed(message.boot, message.number, message.models, message.deaths)
        self.services.set_result(Services(message.config, models, views, feed, limits=limits, lease=self.lease))

    def pong(self, ping: Ping) -> None:
        self.lease.heard, self.lease.seconds = time.monotonic(), ping.lease
        self._look_at_the_lease()
        active = self.services.result().models.in_flight if self.services.done() else 0
        self.root.send(Pong(ping.number, Phase.IDLE, steps=self.steps, active=active))
        if self.services.done():
            self.services.result().views.tick()

    def shut_down(self, deadline: float) -> None:
        """Refuses what comes, lets run what runs; ShutDown follows when nothing does. Once more: a new deadline."""
        services = self.services.result()
        services.models.shut_down(deadline)
        if not services.stopping:
            services.stopping = services.logs.ended = True
            title.set(self.role, "shutting down")
            if self._server is not None:
                self._server.stop_accepting()
            self._keep(asyncio.get_running_loop().create_task(self._report_end(services)))

    def terminate(self) -> None:
        """SIGTERM: as Shutdown, and then the end; a second one does not wait for the streams."""
        if not self.services.done():
            os._exit(0)
        services = self.services.result()
        again = services.stopping
        self.shut_down(0.0 if again else services.config.shutdown.drain_timeout)
        self._keep(asyncio.get_running_loop().create_task(self._stop_when_empty(services)))

    def orphaned(self, reason: str) -> None:
        log.error("the root is gone %s", logs.facts(reason=reason))
        os._exit(ORPHANED)

    def _look_at_the_lease(self) -> None:
        """Now, and when it is due."""
        if self.lease.over(time.monotonic()):
            self.orphaned(f"no ping for {self.lease.seconds:g} s")
        if self._look is not None:
            self._look.cancel()
        if self.lease.seconds:
            within = self.lease.due - time.monotonic()
            self._look = asyncio.get_running_loop().call_later(within, self._look_at_the_lease)

    async def _report_end(self, services: Services) -> None:
        await services.models.emptied()
        self.root.send(ShutDown())

    async def _stop_when_empty(self, services: Services) -> None:
        await services.models.emptied()
        self.stopped.set()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
