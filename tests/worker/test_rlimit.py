"""memory_limit where there is no cgroup: a load that needs more fails and says why, and the server goes on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests import models
from tests.e2e.server import Server, until
from worker.failure import LoadError
from worker.rlimit import explained


@pytest.mark.parametrize(
    ("cause", "limit", "told"),
    [
        ("out_of_memory", 2**20, "memory_limit"),
        ("out_of_memory", 0, "out_of_memory"),
        ("file_corrupt", 9, "file_corrupt"),
    ],
)
def test_only_a_lack_of_memory_within_a_limit_is_the_limits(cause: str, limit: int, told: str) -> None:
    found = explained(LoadError(cause, "no", permanent=False), "qwen", limit)
    assert (found.cause, found.permanent) == (told, told == "memory_limit")
    assert ("[models.qwen].memory_limit is 1 MiB" in found.message) is (told == "memory_limit")


def test_a_model_that_needs_more_than_its_limit_fails_alone(tmp_path: Path) -> None:
    """What it needs is far beyond the limit, and what a process takes anyway far below it."""
    head = "[placement]\nmemory = {}\n"
    large = f'[models.large]\npath = "{models.smollm()}"\nn_ctx = 8192\nparallel = 64\nmemory_limit = "1GiB"\n'
    small = f'[models.small]\npath = "{models.tiny()}"\nn_ctx = 64\nmemory_limit = "4GiB"\n'
    with Server(tmp_path, head + large + small) as server:
        answers = {name: ask(server, name) for name in ("small", "large")}
        assert {name: answer.status_code for name, answer in answers.items()} == {"small": 200, "large": 503}
        until(lambda: server.state("large") == "failed", 30)
        status = server.status("large")
        assert status["cause"] == "memory_limit", server.log.read_text()
        assert "[models.large].memory_limit is 1024 MiB" in status["message"]
        assert server.state("small") == "ready"


def ask(server: Server, model: str) -> httpx.Response:
    return server.http.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1}, timeout=120)
