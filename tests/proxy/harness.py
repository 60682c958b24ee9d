"""A whole proxy in the test's event loop: real sockets all around it, a root and workers that do as the test says.

async with Harness() as server:
    worker = await server.attach()
    ...
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import httpx
from msgspec.structs import replace

from proxy.main import Proxy
from supervisor import replicas
from supervisor.boot import Child
from supervisor.config import Config, Model
from supervisor.control import (
    Attach,
    Channel,
    ConfigureProxy,
    Facts,
    Listening,
    Lost,
    Message,
    ModelChanged,
    ModelStatus,
    Ping,
    State,
    Stop,
    ToRoot,
)
from tests.proxy.described import Client
from worker import protocol
from worker.protocol import (
    Accepted,
    Cancel,
    Delta,
    Event,
    Finished,
    Framer,
    Generate,
    Hello,
    Request,
    Started,
    Timings,
    encode,
)

WITHIN = 90.0  # seconds any fact may take to come true, however slow the machine
M = TypeVar("M")
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


async def until(fact: Callable[[], Any], within: float = WITHIN) -> Any:
    """Waits for a fact; returns it."""
    end = time.monotonic() + within
    while not (found := fact()):
        assert time.monotonic() < end, f"not true within {within} s"
        await asyncio.sleep(0.002)
    return found


def settings(*names: str, **tables: Any) -> Config:
    """A configuration of models that need no file; `m` if no name is given."""
    models = {name: Model(name=name, worker="tests.echo_worker:main") for name in names or ("m",)}
    models = {name: replace(model, aliases=(f"{name}-alias",)) for name, model in models.items()}
    return Config(file="test", models=models, **tables)


def loaded(name: str = "m", generation: int = 1, **more: Any) -> ModelStatus:
    now = time.time()
    facts = Facts(architecture="test", n_ctx=4096, slots=4)
    status = {"since": now, "loaded_at": now, "facts": facts, "generation": generation} | more
    return ModelStatus(name=name, state=status.pop("state", State.READY), **status)


class FakeWorker:
    """The other end of a link. `requests` are all that came; `cancelled` the numbers of those that were cancelled."""

    def __init__(self, generation: int) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.far.setblocking(False)
        self.generation = generation
        self.requests: list[Any] = []
        self.cancelled: list[int] = []
        self.closed = False
        self.hello: Event = Hello(protocol.VERSION, generation)
        self._framer: Framer[Request] = Framer(Request)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self.far, self._read)
        self.send(self.hello)

    def send(self, *events: Event) -> None:
        self.far.send(encode(list(events)))

    def reply(self, ask: Generate, *texts: str, reason: str = "eos") -> None:
        """The whole of an answer, one token a text."""
        timings = Timings(3, 4, 10.0, len(texts), 20.0)
        deltas = [Delta(ask.id, text) for text in texts]
        self.send(Accepted(ask.id, 7), Started(ask.id, 3), *deltas, Finished(ask.id, reason, "", timings))

    async def next(self, number: int = 1) -> Any:
        """The request of that number, counted from 1, when it has come."""
        await until(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    def die(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().remove_reader(self.far)
            self.far.close()

    def _read(self) -> None:
        data = self.far.recv(1 << 20)
        if not data:
            self.die()
            return
        for request in self._framer.feed(data):
            if isinstance(request, Cancel):
                self.cancelled.append(request.id)
            elif not isinstance(request, Hello):
                self.requests.append(request)


class Harness:
    """One proxy, its root, its workers, and a client."""

    def __init__(self, config: Config | None = None, *statuses: ModelStatus) -> None:
        self.config = config or settings()
        names = self.config.models
        self.statuses = statuses or tuple(loaded(name, state=State.UNLOADED, facts=None) for name in names)
        self.said: list[Message] = []  # by the proxy, to the root
        self.workers: list[FakeWorker] = []
        self.sockets: list[socket.socket] = []  # of raw clients; closed at the end
        self.passed: Callable[[Any, list[int]], None] = lambda message, fds: None  # what else becomes of what it says

    async def __aenter__(self) -> Harness:
        loop = asyncio.get_running_loop()
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio leaves Nagle on
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self.channel: Channel[Any] = Channel(control, ToRoot)
        loop.add_reader(self.channel, self._read)
        self.proxy = Proxy(Child("proxy-0", theirs), (listener,))
        self.running = loop.create_task(self.proxy.run())
        self.tell(ConfigureProxy(0, self.config, self.statuses))
        await self.heard(Listening)
        logging.getLogger("proxy.access").setLevel(logging.INFO)
        # verify: else each client would read all the certificates of the system, which takes longer than most tests.
        base = {"base_url": f"http://127.0.0.1:{self.port}", "timeout": WITHIN, "verify": False}
        self.client = Client(self.config.server.root_path, **base)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        for sock in self.sockets:
            sock.close()
        for worker in self.workers:
            worker.die()
        self.tell(Stop(1.0))
        assert await asyncio.wait_for(self.running, WITHIN + 5) == 0
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        asyncio.get_running_loop().remove_reader(self.channel)
        self.proxy.root.close()
        self.channel.close()

    # -- the root -----------------------------------------------------------------------------------------------------

    def tell(self, message: Message, *fds: int) -> None:
        self.channel.send(message, fds)

    async def heard(self, kind: type[M], number: int = 1) -> M:
        """The proxy's message of this kind, counted from 1, when it has come."""

        def found() -> list[Any]:
            return [message for message in self.said if isinstance(message, kind)]

        await until(lambda: len(found()) >= number)
        message: M = found()[number - 1]
        return message

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.said)

    async def attach(self, name: str = "m", generation: int = 1) -> FakeWorker:
        """A ready worker of this model."""
        worker = FakeWorker(generation)
        self.workers.append(worker)
        worker.start()
        self.tell(Attach(name, generation), worker.near.fileno())
        worker.near.close()
        self.tell(ModelChanged(loaded(name, generation)))
        replica = self.proxy.services.result().models.gates[replicas.base(name)].replicas[name]
        await until(lambda: replica.current and replica.current.link.greeted and replica.current.number == generation)
        return worker

    async def change(self, name: str = "m", **facts: Any) -> None:
        """Tells a new state of a model, and waits until it is known."""
        self.tell(ModelChanged(loaded(name, **facts)))
        gate = self.proxy.services.result().models.gates[name]
        await until(lambda: gate.status.state is facts.get("state", State.READY))

    def lose(self, cause: str, name: str = "m", generation: int = 1) -> None:
        self.tell(Lost(name, generation, cause, "as the test says"))

    # -- the client ---------------------------------------------------------------------------------------------------

    def post(self, path: str = "/v1/chat/completions", **body: Any) -> asyncio.Task[httpx.Response]:
        if path.endswith("chat/completions"):
            body = CHAT | body
        return asyncio.ensure_future(self.client.post(path, json=body))

    async def ping(self, number: int) -> None:
        self.tell(Ping(number))

    def _read(self) -> None:
        while (received := self.channel.receive()) is not None:
            self.said.append(received[0])
            self.passed(*received)
            for fd in received[1]:
                os.close(fd)
