"""The whole tree over HTTP, with echo workers: routing, loading, eviction, errors, leaving."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import PATIENCE, Server, Stream, text_of, until
from tests.echo_worker import expected

ECHO = '[defaults]\nworker = "tests.echo_worker:main"\n'
MODELS = """
[placement]
max_models = 0
[models.a]
aliases = ["default"]
preload = true
[models.b]
file = "rate=100"
[models.spare]
[models.other]
[models.slow]
file = "load=0.5"
[models.endless]
file = "load=3600"
"""
ONE_PLACE = '[placement]\nmax_models = 1\n[admission]\nmax_wait = "{max_wait}"\n[models.a]\n[models.b]\n[models.c]\n'
CHAT = "/v1/chat/completions"
STORY = "one two three four five six seven eight nine ten " * 4
ENDLESS = {"max_tokens": 1_000_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("echo"), ECHO + MODELS) as running:
        yield running


@pytest.fixture(scope="module")
def one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Room for one of three models; nobody waits so long that the one that is there is closed to others."""
    with Server(tmp_path_factory.mktemp("one"), ECHO + ONE_PLACE.format(max_wait="1h")) as running:
        yield running


def test_a_streamed_reply_equals_the_unstreamed_one_and_the_oracle(server: Server) -> None:
    assert text_of(server.chat("a", STORY)) == "".join(expected(STORY))
    stream = Stream(server, "a", STORY).join()
    assert (stream.text, stream.done, stream.error) == ("".join(expected(STORY)), True, None)


def test_requests_are_routed_by_model_and_alias(server: Server) -> None:
    for word in ("a", "default"):
        response = server.chat(word, "hello")
        assert response.headers["x-model"] == response.json()["model"] == "a"
    assert server.chat("b", "hello").json()["model"] == "b"


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        (CHAT, {"model": "nope", "messages": [{"role": "user", "content": "x"}]}, 404, "model_not_found", "model"),
        (CHAT, "{not json", 400, "invalid_json", None),
        (CHAT, {"model": "a", "messages": "hello"}, 400, "invalid_value", "messages"),
        ("/v1/completions", {"model": "a", "prompt": "x", "temperature": -1}, 400, "invalid_value", "temperature"),
        (CHAT, {"model": "a", "messages": [{"role": "unsupported", "content": "x"}]}, 400, "template_error", None),
        ("/v1/completions", {"model": "a", "prompt": "x" * 5000}, 400, "context_length_exceeded", None),
        ("/models/load", {"model": "nope"}, 404, "model_not_found", "model"),
        ("/nowhere", {}, 404, "not_found", None),
    ],
)  # fmt: skip
def test_bad_requests_get_one_shape_and_restart_nothing(
    server: Server, path: str, body: Any, status: int, code: str, param: str | None
) -> None:
    before = server.pid("w:a"), server.pid("proxy-0")
    content = body if isinstance(body, str) else json.dumps(body)
    response = server.http.post(path, content=content)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["status"], error["param"]) == (code, status, param)
    assert error["message"]
    assert (server.pid("w:a"), server.pid("proxy-0")) == before
    assert text_of(server.chat("a", "still here")) == "still here"


def test_a_hundred_megabytes_are_refused_before_they_are_read(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {100 * 2**20}\r\n\r\n"
        sock.sendall(head.encode())
        sock.settimeout(PATIENCE)
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")
    assert text_of(server.chat("a", "still here")) == "still here"


def test_a_hundred_megabytes_without_a_length_are_refused_at_the_limit(server: Server) -> None:
    chunks = (b"x" * 2**20 for _ in range(100))
    response = server.http.post("/v1/completions", content=chunks)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_without_autoload_an_unloaded_model_is_refused(server: Server) -> None:
    body = {"model": "spare", "messages": [{"role": "user", "content": "x"}]}
    response = server.http.post("/v1/chat/completions?autoload=false", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "model_not_loaded")
    assert server.state("spare") == "unloaded"
    assert server.http.get("/props?model=spare&autoload=true").status_code == 200
    assert server.state("spare") == "unloaded"  # looking never loads
    assert server.http.post("/v1/chat/completions?autoload=true", json=body).status_code == 200
    assert server.state("spare") == "ready"


def test_requests_that_arrive_together_share_one_load(server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda n: text_of(server.chat("slow", f"word{n}")), range(16)))
    assert replies == [f"word{n}" for n in range(16)]
    assert server.http.get("/v1/models/slow").json()["runtime"]["generation"] == 1


def test_load_and_unload_over_http(server: Server) -> None:
    assert server.http.post("/models/load", json={"model": "other", "wait": True}).json()["success"] is True
    assert server.state("other") == "ready"
    assert server.http.post("/models/load", json={"model": "other"}).json()["already"] is True
    pid = server.pid("w:other")
    assert server.http.post("/models/unload", json={"model": "other", "wait": True}).json()["success"] is True
    status = server.status("other")
    assert (status["value"], status["stop_reason"]) == ("unloaded", "requested")
    assert "failed" not in status
    assert server.pid("w:other") != pid
    assert server.http.post("/models/unload", json={"model": "other"}).json()["already"] is True


def test_an_idle_model_makes_room_and_a_busy_one_finishes_first(one_place: Server) -> None:
    server = one_place
    assert text_of(server.chat("a", "first")) == "first"
    assert text_of(server.chat("b", "second")) == "second"
    assert server.state("a") == "unloaded"
    long = '{"echo": {"rate": 50}} ' + STORY
    busy = Stream(server, "b", long).begun()
    waiting = Stream(server, "a", "third")
    busy.join()
    assert (busy.text, busy.done) == ("".join(expected(STORY)), True)
    assert waiting.join().text == "third"
    assert server.state("b") == "unloaded"


def test_steady_traffic_on_one_model_does_not_starve_another(tmp_path: Path) -> None:
    """Each request begins before the one before it may end, so that the model is never idle; and none is lost."""

    def ask(number: int) -> tuple[Path, Stream]:
        hold = tmp_path / f"hold-{number}"
        hold.touch()
        return hold, Stream(server, "a", json.dumps({"echo": {"at": 1, "hold": str(hold)}}) + STORY)

    with Server(tmp_path, ECHO + ONE_PLACE.format(max_wait="500ms")) as server, ThreadPoolExecutor(1) as pool:
        traffic = [ask(0)]
        traffic[0][1].begun()
        other = pool.submit(server.chat, "b", "finally")
        until(lambda: server.status("b")["queued"] == 1)
        for number in range(1, 1000):  # far more than come within the half second
            traffic.append(ask(number))
            (hold, before), (_, stream) = traffic[-2:]
            until(lambda stream=stream: stream.text or server.state("a") != "ready", what="a token, or the closed door")
            hold.unlink()
            assert before.join().done
            if not stream.text:
                break
        else:
            pytest.fail("the one that waits is still waiting")
        traffic[-1][0].unlink()
        assert text_of(other.result(PATIENCE)) == "finally"
        assert [stream.join().text for _, stream in traffic] == ["".join(expected(STORY))] * len(traffic)


def test_first_come_first_served(one_place: Server, tmp_path: Path) -> None:
    server, hold = one_place, tmp_path / "hold"
    hold.touch()
    busy = Stream(server, "a", json.dumps({"echo": {"at": 3, "hold": str(hold)}}) + STORY).begun()
    before = len(server.log.read_text())
    second = Stream(server, "c", '{"echo": {"rate": 20}} ' + "c " * 5)
    until(lambda: server.status("c")["queued"] == 1)
    third = Stream(server, "b", "b")
    until(lambda: server.status("b")["queued"] == 1)
    hold.unlink()
    for stream in (busy, second, third):
        assert stream.join().done
    log = server.log.read_text()[before:]
    assert log.index("→ LOADING model=c ") < log.index("→ LOADING model=b ")


@contextmanager
def asking(server: Server, **body: Any) -> Iterator[None]:
    """A client that has asked for a completion, and is gone afterwards."""
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(head.encode() + data)
        yield


class TestLeaving:
    """A client that goes away takes its work with it, which would never end by itself."""

    def test_while_its_model_loads(self, server: Server) -> None:
        stream = Stream(server, "endless", "x", sse_ping_interval=1)
        with asking(server, model="endless", prompt="x"):
            until(lambda: server.status("endless")["queued"] == 2)
        until(lambda: server.status("endless")["queued"] == 1)
        assert server.state("endless") == "loading"  # the other one still waits
        server.http.post("/models/unload", json={"model": "endless"})
        stream.join()
        assert stream.error is not None
        until(lambda: server.state("endless") == "unloaded", what="the load is cancelled")

    def test_alone_while_its_model_loads(self, server: Server) -> None:
        with asking(server, model="endless", prompt="x"):
            until(lambda: server.state("endless") == "loading")
        until(lambda: server.state("endless") == "unloaded", what="the load is cancelled")

    def test_while_it_waits_for_a_place(self, one_place: Server) -> None:
        server = one_place
        busy = Stream(server, "a", '{"echo": {"rate": 20}} word', **ENDLESS).begun()
        with asking(server, model="b", prompt="x"):
            until(lambda: server.status("b")["queued"] == 1)
        until(lambda: server.status("b")["queued"] == 0)
        busy.leave()
        busy.join()
        assert server.state("b") == "unloaded"
        assert server.state("a") == "ready"

    @pytest.mark.parametrize("stream", [True, False])
    def test_in_the_middle_of_its_reply(self, server: Server, stream: bool) -> None:
        with asking(server, model="b", prompt="word", stream=stream, **ENDLESS):
            until(lambda: (server.http.get("/v1/models/b").json().get("runtime") or {}).get("in_flight"))
        until(lambda: server.http.get("/v1/models/b").json()["runtime"]["in_flight"] == 0)
        pid = server.pid("w:b")
        title = f"/proc/{pid}/cmdline"
        until(lambda: "1" not in Path(title).read_text().partition("ready")[2], what="the sequence is free")


def test_keys_guard_what_they_name(tmp_path: Path) -> None:
    import hashlib

    keys = "".join(
        f'[[keys]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\nmodels = ["{models}"]\n'
        f"admin = {admin}\n"
        for name, models, admin in (("alice", "a*", "false"), ("root", "*", "true"))
    )
    with Server(tmp_path, keys + ECHO + "[models.a1]\n[models.b1]\n") as server:
        assert server.http.get("/v1/models").status_code == 401
        assert server.http.get("/health").status_code == 200
        alice = {"Authorization": "Bearer alice"}
        assert [m["id"] for m in server.http.get("/v1/models", headers=alice).json()["data"]] == ["a1"]
        body = {"model": "b1", "prompt": "x"}
        assert server.http.post("/v1/completions", json=body, headers=alice).status_code == 404
        assert server.http.post("/v1/completions", json=body, headers={"x-api-key": "root"}).status_code == 200
