"""Several workers of one model, with real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.server import Server, Stream, until

_WITHIN = 60.0
_TOML = """
[placement]
max_models = 2
[liveness]
ping_interval = "0.1s"
[models.m]
worker = "tests.echo_worker:main"
parallel = 1
replicas = 2
idle_timeout = "2s"
[models.other]
worker = "tests.echo_worker:main"
"""
_LONG = "a b c d e f g h i j k l m n o p q r s t u v w x y z"


def replicas(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.http.get("/v1/models/m").json()["replicas"]
    return found


def ready(server: Server) -> list[int]:
    return [each["replica"] for each in replicas(server) if each["state"] == "ready"]


def slow(rate: float) -> str:
    return json.dumps({"echo": {"rate": rate}}) + _LONG


def test_a_second_worker_comes_with_the_queue_serves_and_survives_the_other_and_goes_when_idle(tmp_path: Path) -> None:
    with Server(tmp_path, _TOML) as server:
        streams = [Stream(server, "m", slow(20)).begun(_WITHIN)]
        assert ready(server) == [1]
        streams += [Stream(server, "m", slow(20)) for _ in range(3)]
        until(lambda: len(ready(server)) == 2, _WITHIN, "two workers")
        assert {server.pid("w:m"), server.pid("w:m#2")} == {each["pid"] for each in replicas(server)}
        for stream in streams:
            stream.join(_WITHIN)
            assert (stream.text, stream.error, stream.done) == (_LONG, None, True)
        page = server.http.get("/metrics").text
        assert "m#2" not in page
        assert 'llama_supervisor_loads_total{model="m",result="ok"} 2.0' in page
        until(lambda: not ready(server), _WITHIN, "both gone")
        assert server.status("m")["stop_reason"] == "idle"


def test_one_is_killed_and_the_streams_of_the_other_go_on_and_another_model_takes_its_place(tmp_path: Path) -> None:
    with Server(tmp_path, _TOML.replace('"2s"', '"0s"')) as server:
        first, second = Stream(server, "m", slow(8)).begun(_WITHIN), Stream(server, "m", slow(8))
        until(lambda: len(ready(server)) == 2 and second.text, _WITHIN, "two workers, and the second stream moved on")
        third = Stream(server, "other", "hello")  # no room: the second worker makes it, once its stream has ended
        assert third.join(_WITHIN).text == "hello"
        assert second.join(_WITHIN).text == _LONG
        assert server.pid("w:m#2") is None
        server.kill("w:m")
        assert first.join(_WITHIN).done or first.error is not None
        assert Stream(server, "m", "still there").join(_WITHIN).text == "still there"
