"""llama-swap's routes: what runs, unloading, logs as they come, and our own routes below a model's name."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.logs import Logs
from supervisor import ring
from supervisor.config import Config, Key
from supervisor.control import Answer, ModelCommand, Ring, State
from tests.proxy.harness import CHAT, Harness, settings, until


def with_keys(*names: str) -> Config:
    """`user` may see m only; `admin` is one."""
    keys = (
        Key(name="user", sha256=hashlib.sha256(b"user").hexdigest(), models=("m",)),
        Key(name="admin", sha256=hashlib.sha256(b"admin").hexdigest(), admin=True),
    )
    return replace(settings(*names), keys=keys)


def as_(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_what_runs() -> None:
    async with Harness(settings("m", "n", "o")) as server:
        assert (await server.client.get("/running")).json() == {"running": []}
        await server.change("m", state=State.READY, idle_timeout=300.0)
        await server.change("n", state=State.LOADING, facts=None)
        found = (await server.client.get("/running")).json()["running"]
        assert [(entry["model"], entry["state"], entry["ttl"]) for entry in found] == [
            ("m", "ready", 300),
            ("n", "starting", 0),
        ]
        assert set(found[0]) == {"model", "state", "cmd", "proxy", "ttl", "name", "description"}


async def answer_commands(server: Harness, count: int) -> list[str]:
    """The root's side: each command is accepted, and its model gone."""
    names = []
    for number in range(1, count + 1):
        command = await server.heard(ModelCommand, number)
        names.append(command.model)
        server.tell(Answer(command.ticket))
        await server.change(command.model, state=State.UNLOADED, facts=None)
    return names


@pytest.mark.parametrize(("method", "path", "body"), [("GET", "/unload", "OK"), ("POST", "/api/models/unload", None)])
async def test_everything_is_unloaded(method: str, path: str, body: str | None) -> None:
    async with Harness(settings("m", "n", "o")) as server:
        await server.change("m")
        await server.change("n")
        task = asyncio.ensure_future(server.client.request(method, path))
        assert sorted(await answer_commands(server, 2)) == ["m", "n"]
        response = await task
        assert response.text == body if body else response.json() == {"msg": "ok"}


async def test_one_is_unloaded_by_whoever_may_see_it() -> None:
    async with Harness(with_keys("m", "n/x")) as server:
        await server.change("m")
        task = asyncio.ensure_future(server.client.post("/api/models/unload/m", headers=as_("user")))
        assert await answer_commands(server, 1) == ["m"]
        assert (await task).text == "OK"
        hidden = await server.client.post("/api/models/unload/n%2Fx", headers=as_("user"))
        assert hidden.json()["error"]["code"] == "model_not_found"
        for path in ("/unload", "/logs", "/logs/stream"):
            refused = await server.client.get(path, headers=as_("user"))
            assert refused.json()["error"]["code"] == "admin_required"


class Log:
    """A process's ring, shown to the proxy."""

    def __init__(self, server: Harness, source: str) -> None:
        self.fd = ring.create()
        self.writer = ring.Writer(self.fd)
        server.tell(Ring(source), self.fd)

    def write(self, text: str) -> None:
        self.writer.write(text.encode())

    def close(self) -> None:
        os.close(self.fd)


async def taken(server: Harness, count: int) -> None:
    await until(lambda: len(server.proxy.services.result().logs.sources("")) == count)


async def test_the_log_of_one_model_and_of_all() -> None:
    async with Harness() as server:
        mine, root = Log(server, "w:m"), Log(server, "root")
        await taken(server, 2)
        mine.write("loading\nready \x1b[31mred\n")
        root.write("started\n")
        assert (await server.client.get("/logs?model=m-alias")).text == "loading\nready �[31mred\n"
        found = await server.client.get("/logs")
        assert found.text.splitlines() == [
            "w:m          loading",
            "w:m          ready �[31mred",
            "root         started",
        ]
        assert found.headers["content-type"].startswith("text/plain")
        moved = await server.client.get("/logs", headers={"accept": "text/html"})
        assert (moved.status_code, moved.headers["location"]) == (302, "/")
        mine.close()
        again = Log(server, "w:m")  # the model's next process
        again.write("loading again\n")
        await until(lambda: server.proxy.services.result().logs.tail(["w:m"]) == "loading again\n")
        again.close()
        root.close()


@pytest.mark.parametrize("which", ["", "/upstream", "/m"])
async def test_the_log_as_it_comes(which: str) -> None:
    async with Harness() as server:
        mine, root = Log(server, "w:m"), Log(server, "root")
        await taken(server, 2)
        mine.write("one\n")
        root.write("other\n")
        async with server.client.stream("GET", f"/logs/stream{which}") as response:
            lines = response.aiter_lines()
            first = [await anext(lines) for _ in range(2 if not which else 1)]
            assert first == (["w:m          one", "root         other"] if not which else ["one"])
            mine.write("two, but not")
            mine.write(" at once\nthree\n")
            assert (await anext(lines)).endswith("two, but not at once")
            assert (await anext(lines)).endswith("three")
            mine.close()
            again = Log(server, "w:m")
            again.write("next life\n")
            assert (await anext(lines)).endswith("next life")
            again.close()
        root.close()


async def test_half_a_line_waits_for_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.logs.LOOK", 0)
    found, fd = Logs(), ring.create()
    found.take("w:m", fd)
    writer = ring.Writer(fd)
    async with aclosing(found.follow("", "m", history=True)) as lines:
        line = asyncio.ensure_future(anext(lines))
        writer.write(b"half")
        for _ in range(10):  # looks
            await asyncio.sleep(0)
        assert not line.done()
        writer.write(b" and half\n")
        assert await line == "half and half\n"
    found.close()


async def test_without_history_only_what_is_new() -> None:
    async with Harness() as server:
        mine = Log(server, "w:m")
        await taken(server, 1)
        mine.write("old\n")
        async with server.client.stream("GET", "/logs/stream/m?no-history") as response:
            lines = response.aiter_lines()
            line = asyncio.ensure_future(anext(lines))
            while not line.done():  # until its first look is over
                mine.write("new\n")
                await asyncio.sleep(0.05)
            assert await line == "new"
        mine.close()


async def test_who_follows_is_let_go_when_the_server_stops() -> None:
    async with Harness() as server:
        mine = Log(server, "w:m")
        await taken(server, 1)
        mine.write("one\n")
        async with server.client.stream("GET", "/logs/stream/m") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "one"
            server.proxy.shut_down(1.0)
            with pytest.raises(StopAsyncIteration):
                await anext(lines)
        mine.close()


async def test_our_own_routes_below_a_models_name() -> None:
    config = settings("m", "m/x:y")
    async with Harness(config) as server:
        worker = await server.attach("m/x:y")
        for number, name in enumerate(("m/x:y", "m%2Fx%3Ay", "m/x:y-alias"), start=1):
            task = asyncio.ensure_future(server.client.post(f"/upstream/{name}/v1/chat/completions/", json=CHAT))
            worker.reply(await worker.next(number), "ok")
            assert (await task).json()["model"] == "m/x:y"
        task = server.post("/upstream/m/x:y/v1/messages", model="m", messages=CHAT["messages"])
        worker.reply(await worker.next(4), "ok")
        assert (await task).json()["type"] == "message"
        props = (await server.client.get("/upstream/m/x:y/props?model=m&autoload=false")).json()
        assert props["model_alias"] == "m/x:y"
        assert (await server.client.get("/upstream/m/health")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        ("GET", "/upstream/m", 301, "/upstream/m/"),
        ("POST", "/upstream/m", 308, "/upstream/m/"),
        ("GET", "/upstream/m/", 302, "/"),
        ("GET", "/upstream/m/assets/app.js", 404, None),
        ("GET", "/upstream/none/health", 404, None),
        ("GET", "/upstream/", 404, None),
    ],
)
async def test_redirects_and_what_is_not_there(method: str, path: str, status: int, location: str | None) -> None:
    async with Harness() as server:
        response = await server.client.request(method, path)
        assert (response.status_code, response.headers.get("location")) == (status, location)


async def test_errors_below_a_models_name_keep_their_dialect() -> None:
    async with Harness(with_keys("m", "n")) as server:
        for path, key in (("/upstream/m/v1/messages", "none"), ("/upstream/m/v1/messages", "user")):
            found: Any = (await server.client.post(path, json={"messages": []}, headers=as_(key))).json()
            assert found["type"] == "error"
        hidden = await server.client.get("/upstream/n/props", headers=as_("user"))
        assert hidden.json()["error"]["code"] == "model_not_found"
