"""Logs of the whole tree, and unloading, through llama-swap's routes."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.e2e.server import Server, text_of, until


def test_logs_of_every_process_outlive_it_and_everything_can_be_unloaded(tmp_path: Path) -> None:
    toml = '[defaults]\nworker = "tests.echo_worker:main"\n[models.a]\npreload = true\n[models.b]\n'
    with Server(tmp_path, toml) as server:
        until(lambda: server.state("a") == "ready")
        found = server.http.get("/logs").text
        assert "root         " in found
        assert "proxy-0      listening" in found
        before = server.http.get("/logs", params={"model": "a"}).text
        assert before
        old = server.kill("w:a", signal.SIGKILL)
        until(lambda: server.status("a")["restarts"] == 1)
        assert server.http.get("/logs", params={"model": "a"}).text
        until(lambda: server.state("a") == "ready")
        assert server.pid("w:a") != old
        assert text_of(server.chat("b", "one two", max_tokens=2)) == "one two"
        assert [entry["state"] for entry in server.http.get("/running").json()["running"]] == ["ready", "ready"]
        server.kill("proxy-0")
        until(lambda: server.healthy())
        until(lambda: server.http.get("/logs", params={"model": "b"}).text)  # a new proxy is shown all of them
        assert server.http.get("/unload").text == "OK"
        assert [server.state(name) for name in "ab"] == ["unloaded", "unloaded"]
        assert server.http.get("/logs", params={"model": "b"}).text
