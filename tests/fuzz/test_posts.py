"""The fuzzers of requests, for as long as a test may take. `make fuzz` goes on."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz import over_http, posts, verdict
from tests.fuzz.cases import case, seeds

# Those that fetch from the hub, which is not asked; that end a request, of which none runs; that are not there yet.
_NEVER = {
    "/api/pull", "/models", "/requests/a/cancel", "/api/inflight/a/cancel", "/v1/audio/transcriptions",
    "/audio/transcriptions", "/props", "/slots/a", "/lora-adapters", "/tools", "/cors-proxy",
}  # fmt: skip


def test_no_post_breaks_the_app() -> None:
    assert "200: " in posts.run(10_000, 0)


def test_no_post_breaks_a_server() -> None:
    assert "200: " in over_http.echo(300, 20_000)


def test_no_post_breaks_a_model() -> None:
    assert "200: " in over_http.model(40, 30_000)


def test_every_route_with_a_body_is_tried_and_its_example_served() -> None:
    with posts.target() as (app, loop):
        for path, body in seeds():
            loop.run_until_complete(app.ask(posts.Case(path, posts.written(body | {"model": "a"}), "application/json")))
        paths = {path for path, _ in seeds()}
        assert {path for path in paths if not app.served[path]} == _NEVER


def test_a_case_is_known_by_its_seed() -> None:
    found = seeds()
    assert case(Random(7), found, posts.MODELS) == case(Random(7), found, posts.MODELS)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/v1/chat/completions", 500, b'{"error":{"message":"x","code":"worker_died","status":500}}'),
        ("/v1/chat/completions", 400, b'{"error":"text"}'),
        ("/v1/messages", 400, b'{"error":{"message":"x","code":"invalid_value","status":400}}'),
        ("/api/chat", 400, b'{"error":{"message":"x"}}'),
        ("/v1/chat/completions", 404, b'{"error":{"message":"x","code":"invalid_value","status":404}}'),
        ("/v1/chat/completions", 400, b"Bad Request"),
    ],
)
def test_what_must_not_be_answered(path: str, status: int, body: bytes) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError, KeyError)):
        verdict.judge(path, status, "application/json", body)


@pytest.mark.parametrize("end", [b"data: {}\n\n", b'data: {"error":{}}\n\ndata: [DONE]\n\nx', b""])
def test_a_stream_needs_one_end(end: bytes) -> None:
    with pytest.raises(AssertionError):
        verdict.judge("/v1/chat/completions", 200, "text/event-stream", end)
    verdict.judge("/v1/chat/completions", 200, "text/event-stream", b"data: {}\n\ndata: [DONE]\n\n")
