"""`ctl deaths` and `ctl report`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.supervisor.ctl.standin import Ctl, Ran, Route, StandIn

Capture = pytest.CaptureFixture[str]
ID = "20261122T225301Z-qwen3-9f3a"
DEATH: dict[str, Any] = {
    "role": "w:qwen3", "model": "qwen3", "at": 1_800_000_000.0, "cause": "crashed", "message": "the worker crashed",
    "exit_code": -11, "signal": "SIGSEGV", "pid": 812, "uptime_s": 61.0, "phase": "decode", "requests_lost": 1,
    "action": "restart", "log_tail": ["last"], "report": ID,
}  # fmt: skip
REPORT: dict[str, Any] = {
    "id": ID, "death": DEATH | {"type": "Death", "generation": 1}, "born": 1_799_999_939.0, "died": 1_800_000_000.0,
    "phase": "decode", "phase_since": 1_799_999_999.5,
    "memory": {"resident": 2**30, "shared": 2**20, "peak": 2**31, "available": 2**33},
    "requests": [
        {"id": "old", "began": 1_799_999_950.0, "ended": 1_799_999_952.0},
        {"id": "lost", "began": 1_799_999_998.0},
    ],
    "stack": "Fatal Python error\n  File x", "log_tail": ["first", "last \x1b[31m"],
}  # fmt: skip


def run(capsys: Capture, routes: dict[str, Route], *words: str) -> tuple[Ran, StandIn]:
    with StandIn(routes) as server:
        return Ctl(capsys, "--url", f"http://127.0.0.1:{server.port}")(*words), server


def test_deaths_are_a_table_with_the_names_of_their_reports(capsys: Capture) -> None:
    ran, server = run(capsys, {"GET /admin/deaths": lambda asked: asked.answer({"deaths": [DEATH]})}, "deaths", "qwen3")
    assert (ran.code, server.asked[0].query) == (0, "model=qwen3")
    assert all(word in ran.out for word in (ID, "w:qwen3", "decode", "crashed: the worker crashed"))
    ran, _ = run(capsys, {"GET /admin/deaths": lambda asked: asked.answer({"deaths": [DEATH]})}, "deaths", "--json")
    assert ran.json == [DEATH]


def test_no_deaths(capsys: Capture) -> None:
    routes: dict[str, Route] = {"GET /admin/deaths": lambda asked: asked.answer({"deaths": []})}
    ran, _ = run(capsys, routes, "deaths")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing has died since the server was started\n")
    ran, _ = run(capsys, routes, "report")
    assert (ran.code, "there is no report" in ran.err) == (1, True)


def test_reports_of_earlier_runs_are_named_and_the_last_of_them_is_read(capsys: Capture) -> None:
    routes: dict[str, Route] = {
        "GET /admin/deaths": lambda asked: asked.answer({"deaths": [], "reports": [ID, "older"]}),
        f"GET /admin/deaths/{ID}": lambda asked: asked.answer(REPORT),
    }
    ran, _ = run(capsys, routes, "deaths")
    assert f"2 earlier reports, the last: {ID}, older" in ran.err
    ran, _ = run(capsys, routes, "report")
    assert (ran.code, f"report   {ID}" in ran.out) == (0, True)


@pytest.mark.parametrize("words", [("report",), ("report", ID)])
def test_a_report_is_told_for_people(capsys: Capture, words: tuple[str, ...]) -> None:
    routes: dict[str, Route] = {
        "GET /admin/deaths": lambda asked: asked.answer({"deaths": [DEATH]}),
        f"GET /admin/deaths/{ID}": lambda asked: asked.answer(REPORT),
    }
    ran, _ = run(capsys, routes, *words)
    assert ran.code == 0
    for line in (
        "phase    decode for 0.5s", "exit     SIGSEGV", "memory   1.0 GiB, at most 2.0 GiB", "  lost  2.0s",
        "  old  2.0s", "  Fatal Python error", "  first", "then     restart",
    ):  # fmt: skip
        assert line in ran.out
    assert "\x1b" not in ran.out
    ran, _ = run(capsys, routes, *words, "--json")
    assert ran.json == REPORT


def test_an_answer_of_another_shape_is_a_line_and_not_a_traceback(capsys: Capture) -> None:
    for answer in ({}, [], {"deaths": [{}]}, {"deaths": 3}, None):
        ran, _ = run(capsys, {"GET /admin/deaths": lambda asked, answer=answer: asked.answer(answer)}, "deaths")
        assert (ran.code, ran.err.count("\n"), "is it llama-supervisor?" in ran.err) == (1, 1, True)
    ran, _ = run(capsys, {f"GET /admin/deaths/{ID}": lambda asked: asked.answer({"id": 3})}, "report", ID)
    assert (ran.code, "is it llama-supervisor?" in ran.err) == (1, True)
