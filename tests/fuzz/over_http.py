"""The same cases over HTTP, against a real server: its links, its workers' own parsing, nobody restarted afterwards."""

from __future__ import annotations

import collections
import tempfile
from http.client import HTTPConnection
from pathlib import Path
from random import Random

from tests.e2e.server import SMOLLM2, Server, until
from tests.fuzz import verdict
from tests.fuzz.cases import case, seeds

_ECHO = '[models.{name}]\nworker = "tests.echo_worker:main"\nfile = "rate=0"\npreload = true\n'
# What would unload what others are asked for, or ask the hub.
_SKIP = frozenset({"/models/unload", "/api/models/unload/{id}", "/models", "/api/pull"})
_MOST = 4  # tokens of an answer, so that a model has soon done
_WITHIN = 60.0


def echo(count: int, seed: int) -> str:
    return _serve(_ECHO.format(name="a") + _ECHO.format(name="b"), count, seed)


def model(count: int, seed: int) -> str:
    tables = SMOLLM2.format(name="a") + "preload = true\nn_ctx = 512\n" + _ECHO.format(name="b")
    return _serve(f"{tables}[models.a.force]\nmax_tokens = {_MOST}\n", count, seed)


def _serve(toml: str, count: int, seed: int) -> str:
    """So many cases, each from a seed of its own. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, Server(Path(folder), toml) as server:
        until(lambda: server.state("a") == server.state("b") == "ready", _WITHIN, "both models ready")
        before = [server.pid(role) for role in ("proxy-0", "w:a", "w:b")]
        statuses = ask(server.port, count, seed, ("a", "a", "b", "nobody"))
        until(lambda: server.http.get("/queue").json()["queued"] == 0, _WITHIN, "nobody waits")
        until(lambda: not any(row["is_processing"] for row in server.http.get("/slots").json()), _WITHIN, "all is idle")
        assert [server.pid(role) for role in ("proxy-0", "w:a", "w:b")] == before, "a process was restarted"
        return ", ".join(f"{status}: {times:,}" for status, times in sorted(statuses.items()))


def ask(port: int, count: int, seed: int, models: tuple[str, ...]) -> collections.Counter[int]:
    """How often each status was answered. Raises AssertionError."""
    found, statuses = seeds(_SKIP), collections.Counter[int]()
    connection = HTTPConnection("127.0.0.1", port, timeout=_WITHIN)
    for number in range(seed, seed + count):
        one = case(Random(number), found, models)
        try:
            connection.request("POST", one.path, one.body, {"content-type": one.kind})
            response = connection.getresponse()
            body, kind = response.read(), response.headers.get("content-type", "")
            statuses[response.status] += 1
            verdict.judge(one.path, response.status, kind, body)
        except Exception as error:
            raise AssertionError(f"seed {number}: {error!r}\n{one}") from error
    connection.close()
    return statuses
