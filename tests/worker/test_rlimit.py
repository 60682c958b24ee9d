"""memory_limit where there is no cgroup: a load that needs more fails and says why, and the server goes on."""

from __future__ import annotations

from pathlib import Path

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
    path = models.tiny()
    head = "[placement]\nmemory = {}\n"
    text = f'{head}[models.large]\npath = "{path}"\nn_ctx = 60000\nparallel = 200\nmemory_limit = "150MiB"\n'
    with Server(tmp_path, f'{text}[models.small]\npath = "{path}"\nn_ctx = 64\nmemory_limit = "1GiB"\n') as server:
        small = server.http.post("/v1/completions", json={"model": "small", "prompt": "x", "max_tokens": 1}, timeout=60)
        assert small.status_code == 200, small.text
        large = server.http.post("/v1/completions", json={"model": "large", "prompt": "x", "max_tokens": 1}, timeout=60)
        assert large.status_code == 503
        until(lambda: server.state("large") == "failed")
        status = server.status("large")
        assert status["cause"] == "memory_limit"
        assert "[models.large].memory_limit is 150 MiB" in status["message"]
        assert server.state("small") == "ready"
