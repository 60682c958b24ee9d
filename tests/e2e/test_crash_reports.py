"""A death leaves a report, whoever died and how: what it was at, for whom, and its last words. Never what was said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.server import ROOT, Server, Stream, text_of, until

QUICK = '[restart]\nbackoff = "10ms"\nbackoff_max = "20ms"\nmax_deaths = 2\n'
LIVENESS = '[liveness]\nping_interval = "200ms"\npong_timeout = "1s"\nstep_timeout = "1s"\n'
MODELS = '[models.a]\npreload = true\n[models.broken]\nfile = "crash=SIGABRT"\n'
MODELS += '[models.wrong]\nfile = "fail=permanent"\n'
SECRET = "correct horse battery staple"
WITHIN = 30


def settings(folder: Path) -> str:
    head = f'[state]\ndir = "{folder}/state"\ncrash_reports = 5\n[placement]\nmax_models = 3\n'
    return head + QUICK + LIVENESS + '[defaults]\nworker = "tests.echo_worker:main"\n' + MODELS


def deaths(server: Server, **query: str) -> list[dict[str, Any]]:
    return list(server.http.get("/admin/deaths", params=query).json()["deaths"])


def report(server: Server, id: str) -> dict[str, Any]:
    """Once it is written."""
    until(lambda: server.http.get(f"/admin/deaths/{id}").status_code == 200, WITHIN, f"the report {id}")
    return dict(server.http.get(f"/admin/deaths/{id}").json())


def test_each_death_has_a_report_that_an_admin_can_read(tmp_path: Path) -> None:
    with Server(tmp_path, settings(tmp_path)) as server:
        ctl = [sys.executable, "-m", "supervisor", "ctl", "--url", server.url]
        until(lambda: server.state("a") == "ready", WITHIN)
        for fault in ("SIGSEGV", "hang"):
            order = f'{{"echo": {{"fault": "{fault}", "at": 3, "rate": 50}}}} {SECRET} ' + "and so on " * 9
            assert server.http.post(
                "/v1/completions", json={"model": "a", "prompt": order}, headers={"x-request-id": f"mine-{fault}"}
            ).is_error
        assert text_of(server.chat("a", "back again")) == "back again"
        stream = Stream(server, "a", '{"echo": {"rate": 9}} ' + "one two three " * 60).begun()
        server.kill("proxy-0")
        stream.join()
        until(server.healthy, WITHIN, "another proxy, on another connection")
        until(lambda: len(deaths(server)) == 3, WITHIN, "three deaths")
        proxy, hung, crashed = (report(server, death["report"]) for death in deaths(server))
        assert "staple" not in str([proxy, hung, crashed])

        assert (crashed["death"]["signal"], crashed["phase"]) == ("SIGSEGV", "decode")
        assert "Segmentation fault" in crashed["stack"]
        assert [request["id"] for request in crashed["requests"] if "ended" not in request] == ["mine-SIGSEGV"]
        assert crashed["log_tail"]
        assert crashed["memory"]["available"] > 2**20
        assert crashed["born"] <= crashed["phase_since"] <= crashed["died"]

        assert (hung["death"]["cause"], hung["phase"]) == ("hung", "decode")
        assert "in fail" in hung["stack"]
        assert "mine-hang" in [request["id"] for request in hung["requests"]]
        assert hung["memory"]["peak"] >= hung["memory"]["resident"] > 2**20

        assert (proxy["death"]["role"], proxy["death"]["signal"]) == ("proxy-0", "SIGKILL")
        assert sum("ended" not in request for request in proxy["requests"]) == 1  # the stream

        page = server.http.get("/metrics").text
        for model, cause in (("a", "crashed"), ("a", "hung"), ("", "killed")):
            assert f'llama_supervisor_deaths_total{{cause="{cause}",model="{model}"}} 1' in page
        status = subprocess.run([*ctl, "status"], cwd=ROOT, capture_output=True, text=True, timeout=300).stdout
        assert "hung: " in status

        assert server.chat("wrong", "x").status_code == 503
        (refused,) = deaths(server, model="wrong")
        assert (refused["exit_code"], refused["phase"]) == (78, "loading")

        broken = server.chat("broken", "x")
        assert broken.status_code == 503
        until(lambda: server.state("broken") == "failed", WITHIN)
        loads = deaths(server, model="broken")
        assert {report(server, death["report"])["phase"] for death in loads[:1]} == {"loading"}

        files = list((tmp_path / "state" / "deaths").iterdir())
        assert len(files) == 5
        assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)

        ctl += ["report", loads[0]["report"]]
        ended = subprocess.run(ctl, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert (ended.returncode, "phase    loading" in ended.stdout) == (0, True), ended.stderr
        assert server.http.get("/admin/deaths/20260101T000000Z-x-0000").json()["error"]["code"] == "not_found"
