"""Every POST of the app in process: real middleware and parsing, real frames, a worker that answers at once."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from starlette.types import ASGIApp, Message

from proxy.app import create_app
from supervisor.config import Admission, Config, Log, Shutdown
from supervisor.control import Answer, Attach, Listening, ModelChanged, ModelCommand
from tests.fuzz import verdict
from tests.fuzz.cases import Case, case, seeds
from tests.proxy.harness import FakeWorker, Harness, loaded, settings
from worker.protocol import (
    Accepted,
    Cancel,
    Count,
    Counted,
    Delta,
    Detokenize,
    Embed,
    Event,
    Finished,
    Generate,
    Hello,
    Look,
    Render,
    Rendered,
    Request,
    Rerank,
    Seen,
    Started,
    Timings,
    Tokenize,
    Tokens,
    Vector,
)

MODELS = ("a", "b", "a-alias", "a", "a", "nobody")  # two, so that none is the only one


class Answering(FakeWorker):
    """A worker that has an answer to everything."""

    def _read(self) -> None:
        data = self.far.recv(1 << 22)
        if not data:
            self.die()
            return
        for request in self._framer.feed(data):
            if events := answer(request):
                self.send(*events)


def answer(request: Request) -> list[Event]:
    match request:
        case Generate():
            return [event for id in (request.id, *request.siblings) for event in _generated(id)]
        case Embed():
            return _vectors(request.id, len(request.inputs))
        case Rerank():
            return _vectors(request.id, len(request.documents))
        case Tokenize():
            pieces = [b"a", b"\xff"] if request.with_pieces else None
            return [Tokens(request.id, [1, 2], pieces)]
        case Detokenize() | Render():
            return [Rendered(request.id, "text")]
        case Count():
            return [Counted(request.id, 7)]
        case Look():
            return [Seen(request.id, [])]
        case Hello() | Cancel() | _:
            return []


def _generated(id: int) -> list[Event]:
    return [
        Accepted(id, 7),
        Started(id, 0),
        Delta(id, "one"),
        Delta(id, " two"),
        Finished(id, "eos", "", Timings(0, 7, 1.0, 2, 1.0)),
    ]


def _vectors(id: int, count: int) -> list[Event]:
    packed = struct.pack("<2f", 0.5, -1.0)
    vectors: list[Event] = [Vector(id, index, 2, packed) for index in range(count)]
    return [Accepted(id, 3), Started(id, 0), *vectors, Finished(id, "done", "", Timings(prompt_n=3))]


class Root(Harness):
    """A root that refuses what it is asked, at once."""

    def _read(self) -> None:
        while (received := self.channel.receive()) is not None:
            if isinstance(message := received[0], ModelCommand):
                error = {"pull": "repo_not_found", "remove": "not_removable"}.get(message.verb, "")
                self.tell(Answer(message.ticket, error, already=True))
            elif isinstance(message, Listening):
                self.said.append(message)


class Target:
    """The app, to be called without HTTP."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.statuses: collections.Counter[int] = collections.Counter()
        self.served: collections.Counter[str] = collections.Counter()  # paths, with 200

    async def ask(self, case: Case) -> None:
        """Raises AssertionError if the answer must not be."""
        messages: list[Message] = []
        body: list[Message] = [{"type": "http.request", "body": case.body, "more_body": False}]

        async def receive() -> Message:
            return body.pop() if body else await asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            messages.append(message)

        async with asyncio.timeout(30):
            await self.app(_scope(case), receive, send)
        head, content = messages[0], b"".join(each.get("body", b"") for each in messages[1:])
        kind = dict(head["headers"]).get(b"content-type", b"").decode()
        self.statuses[head["status"]] += 1
        self.served[case.path] += head["status"] == 200
        late = (503,) if case.path == "/models/unload" and b"queue_timeout" in content else ()
        verdict.judge(case.path, head["status"], kind, content, (501, *late))


def written(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def _scope(case: Case) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": case.path, "raw_path": case.path.encode(), "query_string": b"", "root_path": "", "state": {},
        "headers": [(b"host", b"localhost"), (b"content-type", case.kind.encode("latin-1"))],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip


@contextmanager
def target() -> Iterator[tuple[Target, asyncio.AbstractEventLoop]]:
    """The app and the loop that it runs in."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        server = Root(_config(), loaded("a"), loaded("b"))
        runner.run(server.__aenter__())
        logging.getLogger("proxy.access").setLevel(logging.WARNING)
        try:
            services = server.proxy.services.result()
            for name in ("a", "b"):
                runner.run(_attach(server, name))
            yield Target(create_app(services)), loop
            assert services.models.in_flight == 0, "something is still in flight"
        finally:
            logging.getLogger("proxy.access").setLevel(logging.INFO)
            runner.run(server.__aexit__(None, None, None))


def _config() -> Config:
    """Nothing is awaited for long: nothing will change."""
    waits = {"admission": Admission(queue_timeout=0.001), "shutdown": Shutdown(drain_timeout=0.001)}
    return settings("a", "b", log=Log(level="error"), **waits)


async def _attach(server: Harness, name: str) -> None:
    worker = Answering(1)
    server.workers.append(worker)
    worker.start()
    server.tell(Attach(name, 1), worker.near.fileno())
    worker.near.close()
    server.tell(ModelChanged(loaded(name)))
    gate = server.proxy.services.result().models.gates[name]
    while not (gate.current and gate.current.link.greeted):
        await asyncio.sleep(0.001)


def run(count: int, seed: int) -> str:
    """So many cases, each from a seed of its own. Raises AssertionError."""
    found = seeds()
    with target() as (app, loop):
        for number in range(seed, seed + count):
            one = case(Random(number), found, MODELS)
            try:
                loop.run_until_complete(app.ask(one))
            except Exception as error:
                raise AssertionError(f"seed {number}: {one}\n{error!r}") from error
    return ", ".join(f"{status}: {times:,}" for status, times in sorted(app.statuses.items()))
