"""What the routes work with, one set per process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.requests import Request

from proxy.bodies import Bodies
from proxy.feed import Feed
from proxy.limits import Limits
from proxy.logs import Logs
from proxy.models import Models
from proxy.resumption import Resumption
from proxy.running import Running
from proxy.site import Site
from proxy.views import Views
from supervisor.config import Config
from supervisor.lease import Lease

ROOT_SILENCE = 10.0  # seconds without a ping after which this process calls itself unhealthy


@dataclass
class Services:
    """`lease` knows when the root spoke last."""

    config: Config
    models: Models
    views: Views
    feed: Feed
    lease: Lease = field(default_factory=lambda: Lease(time.monotonic()))
    stopping: bool = False
    running: Running = field(default_factory=Running)
    site: Site = field(init=False)
    logs: Logs = field(default_factory=Logs)
    bodies: Bodies = field(init=False)
    limits: Limits = field(default_factory=lambda: Limits(()))

    def __post_init__(self) -> None:
        self.site = Site(self.config.ui)
        self.bodies = Bodies(self.config.server.max_bodies)

    def reconfigure(self, config: Config) -> None:
        """Another configuration, which differs where a proxy can follow. Who watches with a key comes back with it."""
        if config.keys != self.config.keys:
            self.feed.part()
        self.config = config
        self.resumption.kept.settings = config.resume
        self.limits.reconfigure(config.keys)

    @property
    def resumption(self) -> Resumption:
        return self.views.resumption

    @property
    def root_silence(self) -> float:
        return time.monotonic() - self.lease.heard


def of(request: Request) -> Services:
    """The services of the app that a request reached."""
    services: Services = request.app.state.services
    return services
