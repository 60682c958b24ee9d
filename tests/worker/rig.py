"""A real worker process without a root: the test is root and proxy at once, on plain sockets."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import msgspec

from supervisor.config import Model, Sampling
from supervisor.control import (
    Channel,
    ConfigureWorker,
    LoadFailed,
    Message,
    Neighbours,
    Peer,
    Ping,
    Pong,
    Ready,
    Stop,
    ToRoot,
)  # fmt: skip
from worker.protocol import VERSION, Chat, Delta, Event, Finished, Generate, Hello, Request, Text

PATIENCE = 90.0  # seconds: how quick a process is proves nothing


class Worker:
    """`with Worker("worker.main:main") as worker: worker.load(Model(…))`."""

    def __init__(self, entry: str) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.worker.rig", entry, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stderr=subprocess.PIPE)
        theirs.close()
        self.channel: Channel[Message] = Channel(ours, ToRoot)
        self.turn = os.memfd_create("turn")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.channel.close()
        os.close(self.turn)

    def tell(self, message: Message, *fds: int) -> None:
        self.channel.send(message, fds)

    def hear(self, within: float = PATIENCE) -> Message:
        """The next message that is no pong, or a pong if one was asked for."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            select.select([self.channel.sock], [], [], until - time.monotonic())
            if (received := self.channel.receive()) is not None:
                return received[0]
        raise TimeoutError("the worker says nothing")

    def ping(self, number: int = 1, lease: float = 0.0) -> Pong:
        self.tell(Ping(number, lease))
        pong = self.hear()
        assert isinstance(pong, Pong)
        assert pong.number == number
        return pong

    def load(self, model: Model, *, costs: dict[int, float] | None = None) -> Ready | LoadFailed:
        self.tell(ConfigureWorker(model, 1, costs=costs or {}), self.turn)
        answer = self.hear()
        assert isinstance(answer, Ready | LoadFailed), answer
        return answer

    def link(self) -> Link:
        ours, theirs = Pipe(duplex=True)
        self.tell(Peer(0), theirs.fileno())
        theirs.close()
        return Link(ours)

    def crowd(self, count: int) -> None:
        self.tell(Neighbours(count))

    def stop(self, deadline: float = 5.0) -> int:
        self.tell(Stop(deadline))
        return self.process.wait(PATIENCE)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def leave(self) -> int:
        """The root is gone."""
        self.channel.sock.shutdown(socket.SHUT_RDWR)
        return self.process.wait(PATIENCE)

    def stderr(self) -> str:
        """What the process said; only after it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


class Link:
    """A proxy's end, blocking."""

    def __init__(self, connection: Connection, generation: int = 1) -> None:
        self.connection = connection
        self._decoder = msgspec.msgpack.Decoder(list[Event])
        self._events: list[Event] = []
        self.send(Hello(VERSION, generation))
        assert self.event() == Hello(VERSION, 1)

    def send(self, request: Request) -> None:
        self.connection.send_bytes(msgspec.msgpack.encode(request))

    def event(self, within: float = PATIENCE) -> Event:
        while not self._events:
            if not self.connection.poll(within):
                raise TimeoutError("no event")
            self._events = list(self._decoder.decode(self.connection.recv_bytes()))
        return self._events.pop(0)

    def events(self, *ids: int, within: float = PATIENCE) -> Iterator[Event]:
        """Events until each of these requests has ended."""
        open_ = set(ids)
        while open_:
            event = self.event(within)
            yield event
            if type(event).__name__ in ("Finished", "Failed", "Tokens", "Rendered"):
                open_.discard(event.id)  # type: ignore[union-attr]

    def ask(self, id: int, prompt: str | Chat, **parameters: Any) -> list[Event]:
        self.send(generate(id, prompt, **parameters))
        return list(self.events(id))


def generate(
    id: int, prompt: str | Chat, *, stop: tuple[str, ...] = (), stream: bool = True, **sampling: Any
) -> Generate:
    what = prompt if isinstance(prompt, Chat) else Text((prompt,))
    return Generate(id, f"r{id}", what, Sampling(**sampling), stop, stream)


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def end(events: list[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished), last
    return last


def _child(entry: str, fd: int) -> int:
    from supervisor import boot, log

    log.setup("standby")
    main = boot._resolve(entry)
    return main(boot.Child("standby", socket.socket(fileno=fd))) or 0


if __name__ == "__main__":
    threading.current_thread().name = "engine"
    sys.exit(_child(sys.argv[1], int(sys.argv[2])))
