"""What several routes say of the models, as rows. The objects were recorded."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.ctl import overview
from supervisor.ctl.overview import Figures, Overview
from supervisor.ctl.rows import Row, rows

AT = 1795382020.0


def model(name: str, runtime: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    known = {"value": "unloaded", "args": [], "state": "unloaded", "since": AT - 60, "queued": 0, "restarts": 0}
    return {"id": name, "object": "model", "aliases": [], "status": known | status, "runtime": runtime}


RUNTIME = {"generation": 2, "in_flight": 1, "slots": {"total": 4, "busy": 1}, "loaded_at": AT - 60, "pid": 5960}
PAGE = """\
# HELP llamacpp:tokens_predicted_total Tokens generated
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total{model="a"} 120.0
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds{model="a"} 146.2
# TYPE llama_supervisor_memory_bytes gauge
llama_supervisor_memory_bytes{kind="resident",model="a"} 2.0287488e+07
llama_supervisor_memory_bytes{kind="shared",model="a"} 7.815168e+06
# TYPE llama_supervisor_restarts_total counter
llama_supervisor_restarts_total{cause="killed",model="a"} 2.0
llama_supervisor_restarts_total{cause="hung",model="a"} 1.0
llama_supervisor_requests_total{endpoint="/models",model="",status="200"} 1.0
"""


def row(model: dict[str, Any], **more: Any) -> Row:
    (found,) = rows(Overview([model], at=AT, **more))
    return found


def test_a_page_of_metrics_is_read_by_model() -> None:
    found = overview.parse(PAGE)
    assert found == {"a": Figures(20287488.0, 146.2, 120.0, {"killed": 2, "hung": 1})}


def test_counts_are_those_of_all_proxies_where_these_are_known() -> None:
    loaded = model("a", RUNTIME, state="ready", queued=1)
    assert (row(loaded).in_flight, row(loaded).queued) == (1, 1)
    queues = {"a": {"model": "a", "in_flight": 3, "queued": 2}}
    found = row(loaded, queues=queues, figures=overview.parse(PAGE))
    assert (found.in_flight, found.queued, found.speed, found.memory) == (3, 2, 146.2, 20287488.0)
    assert (found.state, found.age, found.vram) == ("ready", 60.0, None)


@pytest.mark.parametrize(
    ("progress", "part"),
    [
        ({"stages": ["text_model"], "current": "text_model", "value": 0.42}, 0.42),
        ({"stages": ["text_model", "mmproj_model"], "current": "mmproj_model", "value": 0.5}, 0.75),
        ({"https://x/1": {"done": 30, "total": 100}, "https://x/2": {"done": 0, "total": 20}}, 0.25),
        ({"https://x/1": {"done": 30, "total": None}}, None),
        (None, None),
    ],
)
def test_progress_is_one_part_of_all_stages_or_files(progress: Any, part: float | None) -> None:
    assert row(model("a", state="loading", progress=progress)).progress == part


def test_what_is_wrong_now_comes_before_what_was() -> None:
    death = {"model": "a", "at": AT - 90, "cause": "killed", "message": "", "signal": "SIGKILL"}
    figures = {"a": Figures(causes={"killed": 2, "hung": 1})}
    broken = model("a", state="failed", cause="load_error", message="not a GGUF file")
    assert row(broken, deaths={"a": death}, figures=figures).failure == "load_error: not a GGUF file"
    assert row(model("a"), deaths={"a": death}, figures=figures).failure == "killed: SIGKILL (1m 30s ago)"
    assert row(model("a"), figures=figures).failure == "killed ×2, hung"
    assert row(model("a")).failure == ""


def test_the_rate_of_all_replies_is_that_between_two_looks() -> None:
    def look(tokens: float, clock: float) -> Overview:
        return Overview([model("a")], figures={"a": Figures(tokens=tokens)}, at=AT, clock=clock)

    (found,) = rows(look(150, 12.0), look(100, 10.0))
    assert found.total == 25.0
    (found,) = rows(look(20, 12.0), look(100, 10.0))  # the server was started anew
    assert found.total == 0.0
    (found,) = rows(look(150, 12.0))
    assert found.total is None


def test_a_stopped_process_is_shown_as_suspended_and_a_backoff_with_its_end() -> None:
    assert row(model("a", RUNTIME, state="ready", suspended=True)).state == "suspended"
    assert row(model("a", state="backoff", retry_at=AT + 3)).retry == 3.0


def test_device_memory_counts_while_the_model_is_there() -> None:
    measured = {"estimated": 9, "vram": 5 * 2**30, "ram": 1, "kv": 1}
    assert row(model("a", RUNTIME) | {"memory": measured}).vram == 5 * 2**30
    assert row(model("a") | {"memory": measured}).vram is None


def test_json_has_the_whole_object_and_what_the_other_routes_say() -> None:
    figures = overview.parse(PAGE)
    (found,) = overview.merged(Overview([model("a")], {"a": {"in_flight": 3, "queued": 2}}, figures))
    assert {name: found[name] for name in model("a")} == model("a")
    assert found["live"] == {
        "in_flight": 3,
        "queued": 2,
        "tokens_per_second": 146.2,
        "tokens_total": 120.0,
        "resident_bytes": 20287488.0,
        "restarts_by_cause": {"killed": 2, "hung": 1},
        "last_death": None,
    }
