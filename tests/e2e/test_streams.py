"""Streams that outlive their client, the tree's view of itself, and its log, through the whole tree: two proxies."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.server import Server, until
from tests.echo_worker import expected

TOML = """proxies = 2
[log]
format = "json"
level = "debug"
[[keys]]
name = "alice"
sha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"
admin = true
[models.a]
worker = "tests.echo_worker:main"
preload = true
"""
WORDS = "one two three four five six seven"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("streams"), TOML) as running:
        running.http.headers["authorization"] = "Bearer alice"
        until(lambda: running.state("a") == "ready", 60)
        yield running


def fresh(server: Server, path: str, **headers: str) -> httpx.Response:
    """By a connection of its own, which either proxy may take."""
    return httpx.get(f"{server.url}{path}", headers={"authorization": "Bearer alice"} | headers, timeout=60)


def left(server: Server, id: str, content: str, *, after: int = 1, **more: Any) -> bytes:
    """What a client has got of a stream that it left after some records."""
    body = {"model": "a", "stream": True, "messages": [{"role": "user", "content": content}]} | more
    headers = {"authorization": "Bearer alice", "x-conversation-id": id}
    got = b""
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.read()
        for data in response.iter_raw():
            got += data
            if got.count(b'"content":"') >= after:
                return got
    raise AssertionError(f"it ended: {got!r}")


def text_of(stream: bytes) -> str:
    *records, end = stream.decode().removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]"
    deltas = [json.loads(record[6:])["choices"][0]["delta"] for record in records if not record.startswith(":")]
    return "".join(delta.get("content") or "" for delta in deltas)


def slowly(words: str, rate: float = 20.0) -> str:
    return json.dumps({"echo": {"rate": rate}}) + words


def test_whichever_proxy_is_asked_the_missing_part_is_exactly_that(server: Server) -> None:
    got = left(server, "c1", slowly(WORDS))
    live = fresh(server, f"/v1/stream?conv_id=c1&from={len(got)}").content  # while it goes on
    assert text_of(got + live) == "".join(expected(WORDS))
    for cut in (0, 1, len(got), len(got) + 5, len(got) + len(live)):
        again = fresh(server, f"/v1/stream?conv_id=c1&from={cut}")  # from one process or the other
        assert (got + live)[cut:] == again.content
    look = server.http.post("/v1/streams/lookup", json={"conversation_ids": ["c1::a"]}).json()
    assert [(each["conversation_id"], each["is_done"], each["total_bytes"]) for each in look] == [
        ("c1", True, len(got + live))
    ]
    server.http.delete("/v1/stream?conv_id=c1")
    assert {fresh(server, "/v1/stream?conv_id=c1").status_code for _ in range(6)} == {404}


def test_a_worker_that_dies_ends_it_with_the_reason(server: Server) -> None:
    fault = json.dumps({"echo": {"fault": "exit:1", "at": 3, "rate": 10}}) + WORDS
    got = left(server, "c2", fault)
    rest = fresh(server, f"/v1/stream?conv_id=c2&from={len(got)}").text
    assert '"code":"worker_died"' in rest
    assert "[DONE]" not in rest
    until(lambda: server.state("a") == "ready", 60)


def test_every_process_is_in_the_tree(server: Server) -> None:
    def processes() -> dict[str, Any]:
        return {row["role"]: row for row in server.http.get("/admin/tree").json()["processes"]}

    wanted = {"root", "proxy-0", "proxy-1", "w:a", "standby"}
    until(lambda: wanted <= processes().keys(), 30, "all of them")
    found = until(lambda: (rows := processes())["w:a"].get("pong_age_ms") is not None and rows, 30)
    assert {role: row["pid"] for role, row in found.items() if role in ("root", "w:a")} == {
        "root": server.process.pid,
        "w:a": server.pid("w:a"),
    }
    assert (found["w:a"]["model"], found["w:a"]["state"], found["proxy-0"]["state"]) == ("a", "ready", "running")
    assert all(row["rss"] > 1e6 and row["uptime_s"] > 0 for row in found.values())


def test_a_request_has_its_id_in_the_lines_of_every_process_and_its_words_in_none(server: Server) -> None:
    headers = {"x-request-id": "from-the-client.1"}
    body = {"model": "a", "messages": [{"role": "user", "content": "swordfish"}], "max_tokens": 3}
    response = server.http.post("/v1/chat/completions", json=body, headers=headers)
    assert response.headers["x-request-id"] == "from-the-client.1"

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in server.log.read_text().splitlines()]
        return [line for line in found if line.get("request") == "from-the-client.1"]

    found = until(lambda: (rows := lines()) and len(rows) >= 3 and rows, 30, "the lines of the request")
    by_message = {line["message"].split()[0]: line for line in found}
    assert {line["process"] for line in found} >= {"w:a"}
    assert by_message["finished"]["generated"] == by_message["POST"]["generated"] == 3
    access = by_message["POST"]
    assert (access["key"], access["model"], access["status"], access["outcome"]) == ("alice", "a", 200, "ok")
    assert {"ms", "queue_ms", "load_ms", "first_ms", "prompt_tokens", "cached_tokens", "bytes"} <= access.keys()
    text = server.log.read_text()
    assert "swordfish" not in text
    assert "Bearer" not in text


def test_a_proxy_that_dies_takes_its_streams_and_says_so(server: Server) -> None:
    got = left(server, "c3", slowly(WORDS, 5.0))
    assert got
    for role in ("proxy-0", "proxy-1"):
        server.kill(role, signal.SIGKILL)
    until(server.healthy, 30)

    def told() -> Any:
        try:
            response = fresh(server, "/v1/stream?conv_id=c3")
        except httpx.HTTPError:
            return None
        return response if response.status_code == 404 and "cause" in response.json()["error"] else None

    assert until(told, 30, "the cause").json()["error"]["cause"] == "proxy_died"
    until(lambda: server.state("a") == "ready", 30)
