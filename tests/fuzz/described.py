"""What the description promises, on a real server: schemathesis makes requests from it, and checks the answers by it.

The statuses, types and bodies of all answers must be described; 500 is nobody's answer, 501 and 503 are some routes'.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.server import Server, until

_ECHO = '[models.a]\nworker = "tests.echo_worker:main"\nfile = "rate=0"\npreload = true\n'
_CONFIG = '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 501, 503]\n'
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
_ENDLESS = r"/sse$|/logs/stream|/api/events$"  # streams without an end
_WITHIN = 3600.0


def run(count: int, seed: int) -> str:
    """About so many requests. Raises AssertionError with what was answered against the description."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, Server(Path(name), _ECHO) as server:
        folder = Path(name)
        until(lambda: server.state("a") == "ready", what="the model is ready")
        before = [server.pid(role) for role in ("root", "proxy-0")]
        (folder / "schemathesis.toml").write_text(_CONFIG)
        each = max(1, count // len(server.http.get("/openapi.json").json()["paths"]))
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(folder / "schemathesis.toml"),
            "run", f"{server.url}/openapi.json", "--phases", "examples,fuzzing", "--max-examples", str(each),
            "--seed", str(seed), "--checks", _CHECKS, "--exclude-path-regex", _ENDLESS, "--request-timeout", "90",
            "--suppress-health-check", "all", "--warnings", "off", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_WITHIN)
        assert done.returncode == 0, f"seed {seed}:\n{done.stdout[-8000:]}{done.stderr[-2000:]}"
        until(lambda: server.http.get("/queue").json()["queued"] == 0, what="nobody waits")
        assert [server.pid(role) for role in ("root", "proxy-0")] == before, "a process was restarted"
        cases = re.search(r"(\d+) generated", done.stdout)
        assert cases, done.stdout
        return f"{int(cases[1]):,} requests as described"
