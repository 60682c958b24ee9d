"""Raw sockets against a real server: what is no HTTP is refused or closed in time, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.e2e.server import Server, until
from tests.faults import wire
from tests.faults.lag import Lag

LIMIT = 200_000
TOML = f"""
max_body = {LIMIT}
body_timeout = "1s"
header_timeout = "3s"
stream_backlog = 65536
[models.a]
worker = "tests.echo_worker:main"
preload = true
[models.b]
worker = "tests.echo_worker:main"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("wire"), TOML) as found:
        until(lambda: found.state("a") == "ready", 60, "the model is ready")
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left(server: Server) -> Iterator[None]:
    """No request runs on, no process was restarted."""
    before = [server.pid("proxy-0"), server.pid("w:a")]
    yield
    queue = until(
        lambda: (found := server.http.get("/queue").json()) and not _busy(found) and found, 30, "nothing runs"
    )
    assert queue["queued"] == 0
    assert [server.pid("proxy-0"), server.pid("w:a")] == before
    assert "a bug" not in server.log.read_text()


def _busy(queue: dict[str, list[dict[str, int]]]) -> bool:
    return any(row["in_flight"] for row in queue["models"])


def _outcomes(server: Server) -> list[str]:
    return [row["outcome"] for row in server.http.get("/activity").json()["recent"]]


def test_bodies_that_come_by_halves(server: Server) -> None:
    wire.half_bodies(server.port)


def test_requests_that_do_not_wait_for_answers(server: Server) -> None:
    wire.pipelined(server.port)


def test_chunks_that_lie(server: Server) -> None:
    wire.chunked_lies(server.port, within=0.3)


def test_line_breaks_in_names(server: Server) -> None:
    wire.injected(server.port)


def test_bodies_around_the_limit(server: Server) -> None:
    wire.sizes(server.port, LIMIT)


def test_names_that_are_paths(server: Server) -> None:
    wire.names(server.url)


def test_clients_that_never_read_are_cut_and_their_sequences_end(server: Server) -> None:
    body = {"model": "a", "messages": [{"role": "user", "content": "w" * 2000}], "max_tokens": 10**8}
    with Lag(server.port), wire.deaf(server.port, body, clients=2):
        until(lambda: "client_stalled" in _outcomes(server), 30, "they are cut")
        until(lambda: not _busy(server.http.get("/queue").json()), 30, "their sequences have ended")


def test_slow_headers_end_while_others_are_served(server: Server) -> None:
    ended: list[float] = []
    thread = threading.Thread(target=lambda: ended.append(wire.slow_headers(server.port, 20, within=60)))
    thread.start()
    with Lag(server.port):
        thread.join(90)
    assert ended, "the connections are still open"
